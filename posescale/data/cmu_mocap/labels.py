"""Which subject belongs to which split and what each known trial shows: facts about CMU's files, no motion.

The split is by skeleton: CMU warns that a person may appear under more than one subject number. Ids that start with
u come from files that do not say their CMU number.
"""

from posescale.data.prepared import Split

SUBJECTS: dict[Split, list[str]] = {
    "train": ["01", "02", "05", "131", "135", "55", "u104", "u88", "umk"],
    "val": ["03", "35", "49", "64", "utp"],
    "test": ["07", "13", "86", "u87", "u93", "ubb"],
}
UNLABELLED = "unlabelled"
ACTIONS: dict[str, list[str]] = {
    "acrobatics": ["u87_backflip", "u88_acrobatics"],
    "balance": ["49_18", "49_19", "49_20"],
    "climb": ["01_02", "01_03", "01_06", "01_08", "01_10", "01_12", "01_14"],
    "dance": ["05_02", "05_03", "05_04", "05_05", "05_07", "05_11", "55_02", "u93_charleston1", "u93_charleston2"],
    "everyday": ["02_06", "02_10", "131_05", "131_06"],
    "exercise": ["13_29", "13_30", "13_31"],
    "jump": ["01_01", "02_04", "131_03", "131_04", "131_07", "131_08"],
    "martial_arts": [
        "02_05",
        "135_02",
        "135_03",
        "135_04",
        "135_05",
        "135_06",
        "135_07",
        "135_08",
        "135_09",
        "135_10",
        "135_11",
    ],
    "mime": ["umk_monkey", "utp_teapot"],
    "mixed": ["86_01", "86_09"],
    "run": ["02_03"],
    "sport": ["64_01", "ubb_basketball"],
    "swordplay": ["02_07", "02_08", "02_09"],
    "walk": ["02_01", "02_02", "05_01", "07_03", "35_01"],
    "walk_styled": ["u104_zombie", "131_01", "131_02", "131_09", "131_10", "131_11", "131_12", "131_13", "131_14"],
    "walk_uneven": ["03_01", "03_02", "03_03", "03_04"],
}
# Subject numbers recorded at 60 frames per second; all others at 120.
SIXTY = {33, 34, 42, 60, 61, 62, 74, 75, 77, 79, 80, 87, 88, 89, 107, 115, 143}


def split_of(subject: str) -> Split:
    """The split of a subject; one that is not listed trains."""
    return next((split for split, subjects in SUBJECTS.items() if subject in subjects), "train")


def action_of(trial: str) -> str:
    """What a trial shows, from its id such as 02_01; a suffix after the number is ignored."""
    known = {name: action for action, names in ACTIONS.items() for name in names}
    return known.get(trial) or known.get("_".join(trial.split("_")[:2]), UNLABELLED)


def native_fps(subject: str) -> float:
    """Frames per second of a subject's original files."""
    number = "".join(c for c in subject if c.isdigit())
    return 60.0 if number and int(number) in SIXTY else 120.0
