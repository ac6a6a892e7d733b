"""The report in a real browser, and what it is tried on."""
