"""Helpers of the package. Not for users: they may change in any release."""
