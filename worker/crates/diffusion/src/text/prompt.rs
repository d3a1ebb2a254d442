//! The prompt syntax of the A1111 web interface: weights in brackets, escapes and `BREAK`.
//!
//! `(text)` weighs 1.1, `(text:1.3)` the number given, `[text]` 1 / 1.1; brackets nest and their weights multiply. A
//! bracket that is never closed reaches to the end, one that was never opened is text, and so is a weight that is no
//! number. A backslash takes the meaning from `(`, `)`, `[`, `]` and itself; before anything else it is dropped.
//! `BREAK` as a word of its own starts a new chunk, inside brackets as well. Prompt editing (`[from:to:when]`,
//! `[a|b]`) and `AND` are not known here: what they hold is read as text.
//!
//! Every text parses; one without brackets, backslashes and `BREAK` is one piece, letter for letter.

/// Weights are kept within ±this: more says nothing to the model but overflows half precision.
pub(crate) const WEIGHT_MAX: f64 = 100.0;

const ROUND_WEIGHT: f64 = 1.1;
const SQUARE_WEIGHT: f64 = 1.0 / 1.1;
const BREAK: &str = "BREAK";

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    /// Text of one weight, finite and within [`WEIGHT_MAX`].
    Text { text: String, weight: f64 },
    /// What follows starts a new chunk.
    Break,
}

/// A prompt's pieces, in order. Neighbouring texts differ in weight.
pub(crate) fn parse(prompt: &str) -> Vec<Piece> {
    let mut parser = Parser::default();
    let mut rest = prompt;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '\\' => parser.escape(rest),
            '(' => parser.open(Bracket::Round),
            '[' => parser.open(Bracket::Square),
            ']' => parser.close(Bracket::Square, "]"),
            ')' => parser.close(Bracket::Round, ")"),
            ':' => parser.colon(rest),
            _ => parser.words(rest),
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    parser.finish()
}

#[derive(Clone, Copy)]
enum Bracket {
    Round,
    Square,
}

/// Each method takes something off the front of the prompt and says how many bytes that was.
#[derive(Default)]
struct Parser {
    pieces: Vec<Piece>,
    /// Where the open brackets started, as indices into `pieces`.
    round: Vec<usize>,
    square: Vec<usize>,
}

impl Parser {
    fn escape(&mut self, rest: &str) -> usize {
        let escaped = rest.get(1..).and_then(|after| after.chars().next());
        match escaped {
            Some(special @ ('(' | ')' | '[' | ']' | '\\')) => {
                self.push(special.encode_utf8(&mut [0; 4]));
                2
            }
            _ => 1,
        }
    }

    fn open(&mut self, bracket: Bracket) -> usize {
        let start = self.pieces.len();
        match bracket {
            Bracket::Round => self.round.push(start),
            Bracket::Square => self.square.push(start),
        }
        1
    }

    fn close(&mut self, bracket: Bracket, text: &str) -> usize {
        let (start, weight) = match bracket {
            Bracket::Round => (self.round.pop(), ROUND_WEIGHT),
            Bracket::Square => (self.square.pop(), SQUARE_WEIGHT),
        };
        match start {
            Some(start) => self.weigh(start, weight),
            None => self.push(text),
        }
        text.len()
    }

    /// A colon is text unless it starts the weight of a round bracket that is open.
    fn colon(&mut self, rest: &str) -> usize {
        if let Some((weight, taken)) = closing_weight(rest)
            && let Some(start) = self.round.pop()
        {
            self.weigh(start, weight);
            return taken;
        }
        self.push(":");
        1
    }

    fn words(&mut self, rest: &str) -> usize {
        let end = rest
            .find(['\\', '(', ')', '[', ']', ':'])
            .unwrap_or(rest.len());
        let mut words = rest.get(..end).unwrap_or_default();
        while let Some((before, after)) = split_at_break(words) {
            self.push(before);
            self.pieces.push(Piece::Break);
            words = after;
        }
        self.push(words);
        end
    }

    fn push(&mut self, text: &str) {
        if !text.is_empty() {
            self.pieces.push(Piece::Text {
                text: text.to_owned(),
                weight: 1.0,
            });
        }
    }

    fn weigh(&mut self, start: usize, factor: f64) {
        for piece in self.pieces.iter_mut().skip(start) {
            if let Piece::Text { weight, .. } = piece {
                *weight = (*weight * factor).clamp(-WEIGHT_MAX, WEIGHT_MAX);
            }
        }
    }

    fn finish(mut self) -> Vec<Piece> {
        while let Some(start) = self.round.pop() {
            self.weigh(start, ROUND_WEIGHT);
        }
        while let Some(start) = self.square.pop() {
            self.weigh(start, SQUARE_WEIGHT);
        }
        let mut merged: Vec<Piece> = Vec::new();
        for piece in self.pieces {
            match (merged.last_mut(), piece) {
                (
                    Some(Piece::Text {
                        text,
                        weight: before,
                    }),
                    Piece::Text { text: more, weight },
                ) if *before == weight => text.push_str(&more),
                (_, piece) => merged.push(piece),
            }
        }
        merged
    }
}

/// Reads `: 1.3 )` off the front: the number, within bounds, and the bytes it all takes.
fn closing_weight(rest: &str) -> Option<(f64, usize)> {
    let after_colon = rest.strip_prefix(':')?.trim_start();
    let (number, after) = after_colon.split_once(')')?;
    let number = number.trim_end();
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    // Other spellings of numbers that Rust reads, `1e5`, `inf` and `NaN`, are text.
    if !digits
        .chars()
        .all(|char| char.is_ascii_digit() || char == '.')
    {
        return None;
    }
    let weight: f64 = number.parse().ok()?;
    Some((
        weight.clamp(-WEIGHT_MAX, WEIGHT_MAX),
        rest.len() - after.len(),
    ))
}

/// What stands before and after the first `BREAK` that is a word of its own, without the space around it.
fn split_at_break(words: &str) -> Option<(&str, &str)> {
    let in_word = |char: char| char.is_alphanumeric() || char == '_';
    words.match_indices(BREAK).find_map(|(start, found)| {
        let (before, rest) = words.split_at_checked(start)?;
        let after = rest.strip_prefix(found)?;
        let alone = !before.ends_with(in_word) && !after.starts_with(in_word);
        alone.then(|| (before.trim_end(), after.trim_start()))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pieces as short text: `{weight|text}`, `//` for a break.
    fn shown(prompt: &str) -> String {
        parse(prompt)
            .iter()
            .map(|piece| match piece {
                Piece::Text { text, weight } if *weight == 1.0 => format!("{{{text}}}"),
                Piece::Text { text, weight } => {
                    format!("{{{}|{text}}}", (weight * 1e4).round() / 1e4)
                }
                Piece::Break => "//".to_owned(),
            })
            .collect()
    }

    #[test]
    fn round_brackets_raise_and_square_ones_lower_the_weight() {
        assert_eq!(shown("a (red) cat"), "{a }{1.1|red}{ cat}");
        assert_eq!(shown("((red)) cat"), "{1.21|red}{ cat}");
        assert_eq!(shown("(((red)))"), "{1.331|red}");
        assert_eq!(shown("a [red] cat"), "{a }{0.9091|red}{ cat}");
        assert_eq!(shown("[[red]]"), "{0.8264|red}");
        assert_eq!(shown("[a (b) c]"), "{0.9091|a }{b}{0.9091| c}");
    }

    #[test]
    fn a_number_after_a_colon_is_the_weight() {
        assert_eq!(shown("a (red:1.3) cat"), "{a }{1.3|red}{ cat}");
        assert_eq!(shown("(red : 0.5 )"), "{0.5|red }");
        assert_eq!(shown("(red:-1)"), "{-1|red}");
        assert_eq!(shown("(red:+.5)(cat:2.)"), "{0.5|red}{2|cat}");
        assert_eq!(shown("(red:0)"), "{0|red}");
        assert_eq!(shown("((red:1.5) cat)"), "{1.65|red}{1.1| cat}");
        assert_eq!(shown("(a (b:2) c:3)"), "{3|a }{6|b}{3| c}");
        assert_eq!(shown("(a:b:1.2)"), "{1.2|a:b}");
        assert_eq!(shown("(:1.2)"), "");
        assert_eq!(shown("x(:1.2)y"), "{xy}");
    }

    #[test]
    fn what_is_no_weight_is_text() {
        for prompt in ["red:1.3", "red:1.3)", "a : b", ":", "10:30", "re: cat"] {
            assert_eq!(shown(prompt), format!("{{{prompt}}}"));
        }
        assert_eq!(shown("(red:1.2.3)"), "{1.1|red:1.2.3}");
        assert_eq!(shown("(red:.)"), "{1.1|red:.}");
        assert_eq!(shown("(red:)"), "{1.1|red:}");
        assert_eq!(shown("(red:NaN)(cat:inf)"), "{1.1|red:NaNcat:inf}");
        assert_eq!(shown("(red:1e5)"), "{1.1|red:1e5}");
        assert_eq!(shown("(red:--1)"), "{1.1|red:--1}");
        assert_eq!(shown("[red:1.3]"), "{0.9091|red:1.3}");
    }

    #[test]
    fn brackets_without_a_partner_are_open_to_the_end_or_text() {
        assert_eq!(shown("a (red cat"), "{a }{1.1|red cat}");
        assert_eq!(shown("a [red cat"), "{a }{0.9091|red cat}");
        assert_eq!(shown("(a [b"), "{1.1|a }{b}");
        assert_eq!(shown("a) cat]"), "{a) cat]}");
        assert_eq!(shown("(a]b"), "{1.1|a]b}");
        assert_eq!(shown("((a)"), "{1.21|a}");
        assert_eq!(shown("(red:1.3"), "{1.1|red:1.3}");
        assert_eq!(shown("()[]"), "");
        assert_eq!(shown("("), "");
    }

    #[test]
    fn a_backslash_takes_the_meaning_from_brackets() {
        assert_eq!(shown(r"a \(red\) cat"), "{a (red) cat}");
        assert_eq!(shown(r"\[red\] \\ cat"), r"{[red] \ cat}");
        assert_eq!(shown(r"(a \(b\):1.5)"), "{1.5|a (b)}");
        assert_eq!(shown(r"a\b \"), "{ab }");
        assert_eq!(shown(r"\\(red)"), r"{\}{1.1|red}");
        assert_eq!(shown(r"(red\:1.5)"), "{1.5|red}");
    }

    #[test]
    fn break_as_a_word_of_its_own_starts_a_new_chunk() {
        assert_eq!(shown("a red cat BREAK the fox"), "{a red cat}//{the fox}");
        assert_eq!(shown("BREAK"), "//");
        assert_eq!(shown("a BREAK BREAK b BREAK"), "{a}////{b}//");
        assert_eq!(shown("a,BREAK,b"), "{a,}//{,b}");
        assert_eq!(shown("(a BREAK b:1.3)"), "{1.3|a}//{1.3|b}");
        assert_eq!(
            shown("a\n BREAK \nb (c)BREAK(d)"),
            "{a}//{b }{1.1|c}//{1.1|d}"
        );
        for plain in [
            "BREAKFAST",
            "aBREAK",
            "BREAK_1",
            "break",
            "ΩBREAK",
            "BREAK2",
        ] {
            assert_eq!(shown(plain), format!("{{{plain}}}"));
        }
    }

    #[test]
    fn weights_stay_within_their_bound() {
        assert_eq!(shown("(a:1000)"), "{100|a}");
        assert_eq!(shown("(a:-1000)"), "{-100|a}");
        let huge = "9".repeat(1_000);
        assert_eq!(shown(&format!("(a:{huge})")), "{100|a}");
        assert_eq!(shown(&format!("((a:0):{huge})")), "{0|a}");
        let nested = format!("{}a{}", "(".repeat(1_999), ")".repeat(1_999));
        assert_eq!(shown(&nested), "{100|a}");
    }

    #[test]
    fn text_without_syntax_stays_as_it_is() {
        for plain in [
            "a red  cat,\n on a\tmat",
            "naïve café 猫 🦊",
            "50% {x} <b> | a",
        ] {
            assert_eq!(shown(plain), format!("{{{plain}}}"));
        }
        assert_eq!(shown(""), "");
    }

    /// Text in which the syntax is likely.
    fn prompts() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => prop::sample::select(vec![
                "(", ")", "[", "]", ":", "\\", ":1.3)", ": -2 )", ":.)", "BREAK", " BREAK ", " ", "1", ".", "猫", ",",
            ]).prop_map(str::to_owned),
            1 => "\\PC{0,3}",
            1 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn every_text_parses_to_pieces_with_sound_weights(prompt in prompts()) {
            let pieces = parse(&prompt);
            let mut previous = None;
            for piece in &pieces {
                let weight = match piece {
                    Piece::Text { text, weight } => {
                        prop_assert!(!text.is_empty());
                        prop_assert!(weight.is_finite() && weight.abs() <= WEIGHT_MAX);
                        Some(*weight)
                    }
                    Piece::Break => None,
                };
                prop_assert!(weight.is_none() || weight != previous);
                previous = weight;
            }
            let text: usize = pieces.iter().map(|piece| match piece {
                Piece::Text { text, .. } => text.len(),
                Piece::Break => BREAK.len(),
            }).sum();
            prop_assert!(text <= prompt.len());
        }

        #[test]
        fn escaped_text_means_itself(text in "[^B]{0,40}") {
            let escaped: String = text
                .chars()
                .flat_map(|char| {
                    let special = matches!(char, '(' | ')' | '[' | ']' | '\\');
                    special.then_some('\\').into_iter().chain([char])
                })
                .collect();
            let wanted: Vec<Piece> = Some(Piece::Text { text: text.clone(), weight: 1.0 })
                .filter(|_| !text.is_empty())
                .into_iter()
                .collect();
            prop_assert_eq!(parse(&escaped), wanted);
        }

        #[test]
        fn a_bracket_around_balanced_text_multiplies_every_weight(
            prompt in balanced_prompts(),
            hundredths in -900i32..900,
        ) {
            let factor = f64::from(hundredths) / 100.0;
            let inside = letters(&prompt);
            let outside = letters(&format!("({prompt}:{factor})"));
            prop_assert_eq!(inside.len(), outside.len());
            for ((letter, weight), (same, multiplied)) in inside.into_iter().zip(outside) {
                prop_assert_eq!(letter, same);
                let wanted = (weight * factor).clamp(-WEIGHT_MAX, WEIGHT_MAX);
                prop_assert!((multiplied - wanted).abs() < 1e-9);
            }
        }
    }

    /// Text whose brackets all have partners.
    fn balanced_prompts() -> impl Strategy<Value = String> {
        let leaf = prop_oneof!["[a-c, ]{0,4}", Just(" BREAK ".to_owned())];
        leaf.prop_recursive(5, 40, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|text| format!("({text})")),
                inner.clone().prop_map(|text| format!("[{text}]")),
                inner.clone().prop_map(|text| format!("({text}:1.3)")),
                prop::collection::vec(inner, 1..4).prop_map(|texts| texts.concat()),
            ]
        })
    }

    /// Every letter with its weight; a break is none.
    fn letters(prompt: &str) -> Vec<(Option<char>, f64)> {
        let of_piece = |piece: Piece| match piece {
            Piece::Text { text, weight } => {
                text.chars().map(|letter| (Some(letter), weight)).collect()
            }
            Piece::Break => vec![(None, 0.0)],
        };
        parse(prompt).into_iter().flat_map(of_piece).collect()
    }
}
