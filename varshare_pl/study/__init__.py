"""Studies: many runs of several methods on several suites over seeds, planned from one file and run to their ends."""
