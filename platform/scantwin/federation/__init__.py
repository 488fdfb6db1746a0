"""How sites train together: what crosses the wire, how it is checked and merged, the processes behind it."""
