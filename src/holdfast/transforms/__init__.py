"""Methods that change the network itself; one class a file."""
