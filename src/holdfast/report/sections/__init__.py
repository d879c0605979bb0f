"""The sections of a page: each says what it shows, what that means and when not to believe it."""
