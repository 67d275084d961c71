"""What a number of videos costs on a number of machines: bytes, hours, money, limits."""
