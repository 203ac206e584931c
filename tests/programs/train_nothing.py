"""A script for `largeds doctor --script` that iterates over no loader; argv[1] is the way in which it ends."""

import sys
import time

match sys.argv[1]:
    case "well":
        print("hello")
    case "with an error":
        raise ValueError("no data")
    case "with a message":
        sys.exit("no GPU")
    case "never":
        time.sleep(60)
