"""`streamlit run dashboard/app.py`: the dashboard, for those who work on it."""

from scantwin_dashboard.main import main

main()
