"""What the package needs of the machine and of itself. Not for users: it may change in any release."""
