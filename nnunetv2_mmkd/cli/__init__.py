"""The command line `mmkd`: argparse only, no logic."""
