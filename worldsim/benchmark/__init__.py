"""What `worldsim bench` measures beside frame times: a rival, the machine's own limit, the plain code; and its plot."""
