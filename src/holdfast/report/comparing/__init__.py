"""The parts of the page of a comparison, each one file: from the record of a setting to a section."""
