"""What the model is taught to draw: objects, styles, colours and scenes.

Everything else (captions, hold-out, tokenizer corpus, evaluation, the
`vocabulary.json` beside the weights) is derived from the tables in this file.
No third-party imports, so the self-test runs on a bare Python.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Object:
    """One thing the model can draw.

    `label` is the emoji's label in emojibase-data and finds the icon; `name`
    is the word a caption normally uses; `synonyms` are used now and then.
    """

    label: str
    name: str
    synonyms: tuple[str, ...] = ()


OBJECTS: tuple[Object, ...] = (
    # Food
    Object("red apple", "red apple", ("apple",)),
    Object("green apple", "green apple"),
    Object("banana", "banana", ("bananas",)),
    Object("strawberry", "strawberry"),
    Object("watermelon", "watermelon", ("slice of watermelon",)),
    Object("lemon", "lemon"),
    Object("grapes", "bunch of grapes", ("grapes",)),
    Object("pineapple", "pineapple"),
    Object("carrot", "carrot"),
    Object("pizza", "pizza", ("slice of pizza",)),
    Object("hamburger", "hamburger", ("burger",)),
    Object("doughnut", "donut", ("doughnut",)),
    Object("birthday cake", "birthday cake", ("cake",)),
    Object("soft ice cream", "ice cream", ("ice cream cone",)),
    Object("cherries", "cherries"),
    Object("avocado", "avocado"),
    Object("ear of corn", "corn cob", ("corn",)),
    Object("broccoli", "broccoli"),
    Object("cooking", "fried egg", ("frying pan", "egg")),
    Object("french fries", "french fries", ("fries", "chips")),
    Object("cupcake", "cupcake", ("muffin",)),
    Object("lollipop", "lollipop", ("candy",)),
    Object("hot beverage", "cup of coffee", ("coffee", "cup of tea")),
    # Animals
    Object("cat face", "cat", ("kitten", "cat face")),
    Object("dog face", "dog", ("puppy", "dog face")),
    Object("fox", "fox"),
    Object("panda", "panda", ("panda bear",)),
    Object("lion", "lion"),
    Object("tiger face", "tiger"),
    Object("pig face", "pig", ("piglet",)),
    Object("rabbit face", "rabbit", ("bunny",)),
    Object("monkey face", "monkey"),
    Object("frog", "frog"),
    Object("elephant", "elephant"),
    Object("owl", "owl"),
    Object("penguin", "penguin"),
    Object("duck", "duck"),
    Object("turtle", "turtle", ("tortoise",)),
    Object("tropical fish", "fish", ("tropical fish",)),
    Object("spouting whale", "whale"),
    Object("octopus", "octopus"),
    Object("butterfly", "butterfly"),
    Object("lady beetle", "ladybug", ("ladybird", "beetle")),
    Object("honeybee", "bee", ("honeybee",)),
    Object("snail", "snail"),
    Object("unicorn", "unicorn"),
    Object("koala", "koala"),
    Object("cow face", "cow"),
    Object("mouse face", "mouse"),
    Object("chicken", "chicken", ("hen",)),
    Object("crab", "crab"),
    Object("T-Rex", "dinosaur", ("t-rex",)),
    Object("shark", "shark"),
    # Plants
    Object("rose", "rose", ("red rose",)),
    Object("sunflower", "sunflower"),
    Object("cactus", "cactus"),
    Object("evergreen tree", "pine tree", ("tree",)),
    Object("palm tree", "palm tree"),
    Object("mushroom", "mushroom", ("red mushroom", "toadstool")),
    Object("maple leaf", "maple leaf", ("autumn leaf", "leaf")),
    Object("four leaf clover", "clover", ("four leaf clover",)),
    # Transport and places
    Object("automobile", "car", ("red car", "automobile")),
    Object("bus", "bus"),
    Object("airplane", "airplane", ("plane",)),
    Object("rocket", "rocket", ("spaceship",)),
    Object("sailboat", "sailboat", ("boat",)),
    Object("locomotive", "train", ("locomotive", "steam train")),
    Object("house", "house", ("home",)),
    Object("castle", "castle"),
    Object("fire engine", "fire truck", ("fire engine",)),
    Object("helicopter", "helicopter"),
    Object("flying saucer", "ufo", ("flying saucer",)),
    Object("tractor", "tractor"),
    # Things
    Object("guitar", "guitar"),
    Object("soccer ball", "soccer ball", ("football", "ball")),
    Object("crown", "crown", ("golden crown",)),
    Object("key", "key"),
    Object("light bulb", "light bulb", ("bulb", "lamp")),
    Object("laptop", "laptop", ("computer",)),
    Object("camera", "camera"),
    Object("umbrella", "umbrella"),
    Object("alarm clock", "alarm clock", ("clock",)),
    Object("balloon", "balloon", ("red balloon",)),
    Object("wrapped gift", "gift", ("present", "gift box")),
    Object("basketball", "basketball"),
    Object("trophy", "trophy", ("golden cup",)),
    Object("bell", "bell", ("golden bell",)),
    Object("gem stone", "diamond", ("gem",)),
    Object("drum", "drum"),
    Object("hourglass done", "hourglass"),
    Object("envelope", "envelope", ("letter",)),
    Object("top hat", "top hat", ("hat",)),
    Object("bomb", "bomb"),
    # Sky and weather
    Object("star", "star", ("yellow star",)),
    Object("crescent moon", "moon", ("crescent moon",)),
    Object("snowman without snow", "snowman"),
    Object("fire", "flame", ("fire",)),
    Object("sun", "sun"),
    Object("rainbow", "rainbow"),
    Object("high voltage", "lightning bolt", ("lightning",)),
    Object("ringed planet", "planet", ("saturn",)),
    # Figures and signs
    Object("red heart", "red heart", ("heart",)),
    Object("blue heart", "blue heart"),
    Object("ghost", "ghost"),
    Object("robot", "robot", ("robot face",)),
    Object("alien", "alien"),
    Object("grinning face", "smiley face", ("smiley", "happy face")),
    Object("jack-o-lantern", "pumpkin", ("halloween pumpkin",)),
)

OBJECT_NAMES: tuple[str, ...] = tuple(item.name for item in OBJECTS)

# Style name -> icon set it is drawn from.
STYLES: dict[str, str] = {
    "flat": "fluent-emoji-flat",
    "3d": "fluent-emoji",
    "cartoon": "noto",
}

# Plain backgrounds, sRGB bytes; composites jitter every channel a little.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 45, 50),
    "orange": (245, 140, 35),
    "yellow": (250, 215, 60),
    "green": (60, 165, 75),
    "blue": (50, 105, 220),
    "purple": (135, 70, 190),
    "pink": (245, 150, 190),
    "white": (250, 250, 250),
    "black": (22, 22, 26),
    "gray": (140, 144, 150),
    "teal": (40, 160, 160),
    "brown": (125, 80, 50),
}

COLOUR_SYNONYMS: dict[str, tuple[str, ...]] = {
    "gray": ("grey",),
    "purple": ("violet",),
    "teal": ("turquoise",),
}

# Scene name -> phrases that ask for it, the usual one first.
SCENES: dict[str, tuple[str, ...]] = {
    "meadow": ("in a green meadow", "on grass under a blue sky"),
    "beach": ("on a beach", "on the sand by the sea"),
    "night": ("under a starry night sky", "at night with stars"),
    "sunset": ("at sunset", "in front of a sunset"),
}

BACKGROUNDS: tuple[str, ...] = tuple(COLOURS) + tuple(SCENES)

# Combinations that are trained whatever the hold-out hash says: the prompt
# that the product shows first must not hang on a hash.
ALWAYS_TRAINED: frozenset[tuple[str, str]] = frozenset({("red apple", "blue")})

HELD_OUT_SHARE = 10  # one combination in this many is never trained


def fnv1a(text: str) -> int:
    """32-bit FNV-1a of the UTF-8 bytes: stable across platforms and versions."""
    value = 2166136261
    for byte in text.encode("utf-8"):
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


def is_held_out(name: str, style: str, background: str) -> bool:
    """Whether this object × style × background is kept out of training."""
    if (name, background) in ALWAYS_TRAINED:
        return False
    digest = fnv1a(f"{name}|{style}|{background}")
    # The low bits of FNV-1a mix the last letters poorly; fold the high half in.
    return (digest ^ (digest >> 16)) % HELD_OUT_SHARE == 0


def held_out_combinations() -> list[tuple[str, str, str]]:
    """Every (name, style, background) that training never shows, in table order."""
    return [
        (name, style, background)
        for name in OBJECT_NAMES
        for style in STYLES
        for background in BACKGROUNDS
        if is_held_out(name, style, background)
    ]
