"""What the canvas shows of results: maps and boxes of tokens, surfaces, places."""
