"""Methods side by side: a plan of runs, who makes them, and what their numbers show. No import of torch here."""
