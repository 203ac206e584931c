"""The measurements of `largeds doctor` and `largeds bench`; the commands themselves are in cli/.

doctor/ finds what limits an epoch, bench/ compares with other libraries. peers.py has common alternatives for the same
work, classifier.py the model that both train. Not for users: it may change in any release.
"""
