#!/usr/bin/env python3
"""Quick checks of vocabulary, captions, hold-out and tokenizer: `python3 train/selftest.py`.

Needs nothing but Python; the tokenizer's checks run where `tokenizers` is
installed, the picture checks where torch and rasterised icons are.
"""

import importlib.util
import json
import random
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import captions  # noqa: E402
import vocabulary  # noqa: E402


class Vocabulary(unittest.TestCase):
    def test_it_is_large_enough_and_names_nothing_twice(self):
        names = vocabulary.OBJECT_NAMES
        self.assertGreaterEqual(len(names), 100)
        self.assertEqual(len(names), len(set(names)))
        labels = [item.label for item in vocabulary.OBJECTS]
        self.assertEqual(len(labels), len(set(labels)))

    def test_no_synonym_is_the_name_of_something_else(self):
        synonyms = [word for item in vocabulary.OBJECTS for word in item.synonyms]
        self.assertEqual(len(synonyms), len(set(synonyms)))
        self.assertFalse(set(synonyms) & set(vocabulary.OBJECT_NAMES))

    def test_it_has_twelve_colours_four_scenes_and_three_styles(self):
        sizes = [len(table) for table in (vocabulary.COLOURS, vocabulary.SCENES, vocabulary.STYLES)]
        self.assertEqual(sizes, [12, 4, 3])


class HoldOut(unittest.TestCase):
    def test_about_a_tenth_of_all_combinations_is_held_out(self):
        total = len(vocabulary.OBJECTS) * len(vocabulary.STYLES) * len(vocabulary.BACKGROUNDS)
        share = len(vocabulary.held_out_combinations()) / total
        self.assertGreater(share, 0.08)
        self.assertLess(share, 0.12)

    def test_the_hash_is_the_published_fnv1a(self):
        self.assertEqual(vocabulary.fnv1a(""), 0x811C9DC5)
        self.assertEqual(vocabulary.fnv1a("foobar"), 0xBF9CF968)

    def test_every_object_and_every_background_is_held_out_somewhere(self):
        held = vocabulary.held_out_combinations()
        self.assertEqual({name for name, _, _ in held}, set(vocabulary.OBJECT_NAMES))
        self.assertEqual({where for _, _, where in held}, set(vocabulary.BACKGROUNDS))

    def test_training_never_shows_a_held_out_combination(self):
        rng = random.Random(5)
        for _ in range(20_000):
            spec = captions.random_spec(rng)
            for name in spec.names:
                held = vocabulary.is_held_out(name, spec.style, spec.background)
                self.assertFalse(held, spec)

    def test_the_first_prompt_of_the_product_is_trained_in_every_style(self):
        for style in vocabulary.STYLES:
            self.assertFalse(vocabulary.is_held_out("red apple", style, "blue"))


class Captions(unittest.TestCase):
    def test_the_same_seed_gives_the_same_sentences(self):
        def lines(seed):
            rng = random.Random(seed)
            return [captions.caption(rng, captions.random_spec(rng)) for _ in range(500)]

        self.assertEqual(lines(3), lines(3))
        self.assertNotEqual(lines(3), lines(4))

    def test_the_product_prompt_and_a_bare_noun_occur(self):
        rng = random.Random(6)
        lines = {captions.caption(rng, captions.random_spec(rng)) for _ in range(60_000)}
        self.assertIn("a red apple on a blue background", lines)
        self.assertIn("a cat", lines)

    def test_pairs_and_scenes_have_their_share(self):
        rng = random.Random(7)
        specs = [captions.random_spec(rng) for _ in range(20_000)]
        pairs = sum(spec.second is not None for spec in specs) / len(specs)
        scenes = sum(spec.background in vocabulary.SCENES for spec in specs) / len(specs)
        self.assertAlmostEqual(pairs, captions.PAIR_SHARE, delta=0.03)
        self.assertAlmostEqual(scenes, captions.SCENE_SHARE, delta=0.03)
        smalls = sum(spec.small for spec in specs) / (len(specs) * (1 - pairs))
        self.assertAlmostEqual(smalls, captions.SMALL_SHARE, delta=0.03)

    def test_a_small_object_is_called_small_and_never_one_of_a_pair(self):
        rng = random.Random(9)
        for _ in range(5_000):
            spec = captions.random_spec(rng)
            said = set(captions.caption(rng, spec).replace(",", "").split())
            self.assertEqual(bool(said & set(captions.SMALL_WORDS)), spec.small, spec)
            self.assertFalse(spec.small and spec.second is not None)

    def test_the_two_objects_of_a_pair_are_shown_in_both_orders(self):
        rng = random.Random(10)
        pairs = {spec.names for spec in map(captions.random_spec, [rng] * 60_000) if spec.second}
        both = sum(names[::-1] in pairs for names in pairs) / len(pairs)
        self.assertGreater(both, 0.5)

    def test_articles_follow_the_sound(self):
        said = {word: captions.with_article(word) for word in ("owl", "unicorn", "umbrella", "hourglass", "cherries", "cat")}
        self.assertEqual(
            list(said.values()), ["an owl", "a unicorn", "an umbrella", "an hourglass", "cherries", "a cat"]
        )

    def test_the_judging_sentence_names_object_background_and_style(self):
        spec = captions.Spec("owl", "3d", "night")
        self.assertEqual(
            captions.plain_caption(spec), "an owl under a starry night sky, 3d style"
        )


@unittest.skipUnless(importlib.util.find_spec("tokenizers"), "tokenizers is not installed")
class Tokenizer(unittest.TestCase):
    def test_training_it_twice_gives_the_same_files(self):
        import bpe

        made = []
        for _ in range(2):
            with tempfile.TemporaryDirectory() as folder:
                work = Path(folder)
                (work / "words.json").write_text(json.dumps(["astronaut space", "horse riding"]))
                bpe.train(work)
                made.append(
                    {file.name: file.read_bytes() for file in (work / "tokenizer").iterdir()}
                )
        self.assertEqual(made[0], made[1])

    def test_shipped_words_are_whole_tokens_and_captions_fit(self):
        import bpe

        folder = HERE.parent
        if not bpe.is_done(folder):
            self.skipTest("no model has been exported yet")
        encoder = bpe.Encoder(folder)
        ids = json.loads((folder / "tokenizer" / "vocab.json").read_text("utf-8"))
        shipped = json.loads((folder / "vocabulary.json").read_text("utf-8"))
        for name in (item["name"] for item in shipped["objects"]):
            for word in name.split():
                self.assertIn(word.split("-")[0] + "</w>", ids)
        rng = random.Random(8)
        lines = [captions.caption(rng, captions.random_spec(rng)) for _ in range(5000)]
        for line, row in zip(lines, encoder(lines), strict=True):
            self.assertEqual(len(row), bpe.POSITIONS, line)
            self.assertEqual(row[-1], encoder.end, line)


if __name__ == "__main__":
    unittest.main()
