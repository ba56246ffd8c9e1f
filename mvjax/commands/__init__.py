"""One file a command of launch.py: its flags, and the call they lead to."""
