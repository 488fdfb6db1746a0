"""The script that `scantwin dashboard` has Streamlit run.

It is alone in its folder: beside `pages/`, Streamlit would list those files while it starts.
"""

from scantwin_dashboard.main import main

main()
