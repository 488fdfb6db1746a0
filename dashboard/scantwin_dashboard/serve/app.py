"""What `scantwin dashboard` lets Streamlit run.

It stands alone in its folder: beside `pages/`, Streamlit would list those files while it starts.
"""

from scantwin_dashboard.main import main

main()
