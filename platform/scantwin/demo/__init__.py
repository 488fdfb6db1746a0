"""The demo: ScanTwin's own commands, run one after the other as people would run them."""
