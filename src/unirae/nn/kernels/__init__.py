"""The same numbers, faster or in less memory."""
