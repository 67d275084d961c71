"""The scorecard: everything that is measured of a folder of vectors, on one page and as JSON."""
