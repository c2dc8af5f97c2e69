"""Playbook tests: `<name>.cases.yaml` says what happens and what should come of it; the real main path runs on virtual time.

- `case`: a case, as data; `model`: what a file may say of it; `files`: from the one to the other, every error with its place
- `script`: what is wrong, and how it changes; `neighbours`: who sees it; `history`: what was done before
- `rehearsal`: one case, from its start to its end
- `story`: what came of it, a line for each thing that people care about; `report`: expected and real story, compared
"""
