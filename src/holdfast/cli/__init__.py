"""The command line: parse, call, print; one file for each verb. Nothing here imports torch before work begins."""
