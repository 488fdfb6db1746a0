"""How sites train together: what crosses the wire, how it is checked and merged, and the processes behind it."""
