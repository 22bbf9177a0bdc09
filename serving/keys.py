"""`python -m serving.keys NAME` makes an API key, and the line for the file of keys."""

import hashlib
import secrets
import sys

from serving.api.api_keys import KEY_NAME


def main(arguments: list[str]) -> int:
    usage = "usage: python -m serving.keys NAME  (letters, digits, `.`, `_`, `-`, the first of them no `-`)"
    if arguments in (["-h"], ["--help"]):
        print(usage)
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-") or not KEY_NAME.fullmatch(arguments[0]):
        print(usage, file=sys.stderr)
        return 2
    secret = secrets.token_urlsafe(32)
    print(f"the key, shown just once:  {secret}")
    print(f"the line for DERAIN_KEYS:  {arguments[0]} {hashlib.sha256(secret.encode()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
