"""What a run is told to do: the options as one frozen dataclass, and how they are read."""
