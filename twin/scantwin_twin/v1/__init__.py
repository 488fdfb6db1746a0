"""Generated from `proto/scantwin/twin/v1/twin.proto` by `make proto`; never edited by hand."""
