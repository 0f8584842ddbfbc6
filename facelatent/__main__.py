"""``python -m facelatent``, which torchrun needs."""

from facelatent.cli import main

if __name__ == "__main__":
    main(prog_name="facelatent")
