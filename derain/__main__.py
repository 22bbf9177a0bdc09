"""What the command `derain` runs: `derain serve`, the service; `derain bulk`, archives; else, files."""

import sys


def main() -> int:
    """The exit status; 2 where the packages are missing that it needs."""
    try:
        if sys.argv[1:2] == ["serve"]:
            from derain import serve

            return serve.main(sys.argv[2:])
        if sys.argv[1:2] == ["bulk"]:
            from derain.bulk import cli as bulk

            return bulk.main(sys.argv[2:])
        from derain import cli
    except ModuleNotFoundError as error:
        if error.name not in ("onnxruntime", "fsspec", "ray"):
            raise
        print(f"derain: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while they are loaded
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
