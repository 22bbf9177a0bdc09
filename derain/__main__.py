"""What the command `derain` runs: `derain serve` starts the service, anything else derains files."""

import sys


def main() -> int:
    """The exit status; 2 where the packages are missing that it needs."""
    try:
        if sys.argv[1:2] == ["serve"]:
            from derain import serve

            return serve.main(sys.argv[2:])
        from derain import cli
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        print(f"derain: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while they are loaded
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
