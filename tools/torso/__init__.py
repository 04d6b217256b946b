"""Torsos made of shapes, as CT shows them: scans in which little is to be found, and unevenly."""
