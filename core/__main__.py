"""`python -m core`: the `workbook` command without an installation."""

from core.cli import main

if __name__ == "__main__":
    main()
