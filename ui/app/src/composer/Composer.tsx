import { useState, type KeyboardEvent, type MouseEvent, type SyntheticEvent } from "react";
import type { Model, Scheduler } from "@scumble/sdk";
import { Field, errorAttributes } from "../ui/Field";
import { AlertIcon, StopIcon } from "../ui/icons";
import { SettingsPanel } from "./SettingsPanel";
import { fieldId, type Change, type FieldErrors } from "./fields";
import type { Settings } from "./settings";
import { namesSomethingKnown, withWord, type WordKind } from "./vocabulary";

interface ComposerProps {
  settings: Settings;
  model: Model | undefined;
  models: readonly Model[];
  schedulers: readonly Scheduler[];
  errors: FieldErrors;
  /** An error that is no field's fault. */
  problem: string | undefined;
  isDrawing: boolean;
  isSettingsOpen: boolean;
  shownSeed: string | undefined;
  onChange: Change;
  onReset: () => void;
  onSettingsToggle: (isOpen: boolean) => void;
  onDraw: () => void;
  onExample: (prompt: string) => void;
  onCancel: () => void;
}

/** As many as one takes in at a glance. */
const examplesMax = 5;

/** Everything that goes into a picture: the words first, the settings folded beneath. */
export function Composer(props: ComposerProps) {
  const { model, isDrawing } = props;

  function submit(event: SyntheticEvent): void {
    event.preventDefault();
    if (!isDrawing) props.onDraw();
  }

  function drawFromKeyboard(event: KeyboardEvent): void {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!isDrawing) props.onDraw();
    }
  }

  return (
    <form
      className="composer"
      aria-label="What to draw"
      noValidate
      onSubmit={submit}
      onKeyDown={drawFromKeyboard}
    >
      <Prompt {...props} />

      <div className="draw">
        <DrawButton isDrawing={isDrawing} onCancel={props.onCancel} />
        {props.problem !== undefined && (
          <div className="problem" role="alert">
            <AlertIcon />
            <p>{props.problem}</p>
            <button type="submit" className="button-quiet">
              Try again
            </button>
          </div>
        )}
      </div>

      {model !== undefined && model.examples.length > 0 && (
        <ul className="chips" aria-label="Examples to draw">
          {model.examples.slice(0, examplesMax).map((example) => (
            <li key={example}>
              <button
                type="button"
                className="chip"
                onClick={() => {
                  props.onExample(example);
                }}
              >
                {example}
              </button>
            </li>
          ))}
        </ul>
      )}

      <SettingsPanel {...props} />
    </form>
  );
}

/** The words and, for a model that has learned few, which ones it knows. */
function Prompt({ settings, model, errors, onChange }: ComposerProps) {
  const [isListOpen, setListOpen] = useState(false);
  const id = fieldId("prompt");
  const vocabulary = model?.vocabulary ?? undefined;
  const isGuess =
    vocabulary !== undefined &&
    settings.prompt.trim() !== "" &&
    !namesSomethingKnown(settings.prompt, vocabulary);
  function addWord(kind: WordKind, word: string): void {
    onChange("prompt", withWord(settings.prompt, kind, word));
  }
  const listToggle = vocabulary !== undefined && (
    <button
      type="button"
      className="words-toggle"
      aria-expanded={isListOpen}
      aria-controls="words"
      onClick={() => {
        setListOpen(!isListOpen);
      }}
    >
      Words it knows
    </button>
  );

  return (
    <>
      <Field id={id} label="Prompt" error={errors.prompt} className="prompt" aside={listToggle}>
        <textarea
          id={id}
          rows={3}
          value={settings.prompt}
          placeholder="What would you like to see?"
          autoComplete="off"
          onChange={(event) => {
            onChange("prompt", event.target.value);
          }}
          {...errorAttributes(id, errors.prompt)}
        />
      </Field>
      {vocabulary !== undefined && (
        <div
          id="words"
          className="words"
          hidden={!isListOpen}
          tabIndex={0}
          role="group"
          aria-label="Words it knows"
        >
          <WordGroup title="Things" kind="objects" words={vocabulary.objects} onPick={addWord} />
          <WordGroup title="Styles" kind="styles" words={vocabulary.styles} onPick={addWord} />
          <WordGroup title="Backgrounds" kind="colors" words={vocabulary.colors} onPick={addWord} />
          <WordGroup title="Places" kind="scenes" words={vocabulary.scenes} onPick={addWord} />
        </div>
      )}
      <p className={isGuess ? "hint" : undefined} role="status">
        {isGuess &&
          "None of the words that this small model has learned is in the prompt, so it will guess. " +
            "The words it knows are a click away, above; the examples below draw well."}
      </p>
    </>
  );
}

interface WordGroupProps {
  title: string;
  kind: WordKind;
  words: readonly string[];
  onPick: (kind: WordKind, word: string) => void;
}

/** Words of one kind; a click puts one into the prompt. */
function WordGroup({ title, kind, words, onPick }: WordGroupProps) {
  if (words.length === 0) return null;
  return (
    <div>
      <strong id={`words-${kind}`}>{title}</strong>
      <ul className="word-list" aria-labelledby={`words-${kind}`}>
        {words.map((word) => (
          <li key={word}>
            <button
              type="button"
              className="word"
              onClick={() => {
                onPick(kind, word);
              }}
            >
              {word}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** One button in one place, so that focus stays where it is when Draw becomes Cancel and back. */
function DrawButton({ isDrawing, onCancel }: { isDrawing: boolean; onCancel: () => void }) {
  function click(event: MouseEvent): void {
    if (!isDrawing) return;
    event.preventDefault();
    // The second half of a double click on Draw is not a wish to cancel.
    if (event.detail <= 1) onCancel();
  }
  const isMac = navigator.userAgent.includes("Mac");
  return (
    <button type="submit" className={isDrawing ? "button-main button-cancel" : "button-main"} onClick={click}>
      {isDrawing ? (
        <>
          <StopIcon />
          Cancel
        </>
      ) : (
        <>
          Draw
          <kbd aria-hidden="true">{isMac ? "⌘ ↵" : "Ctrl ↵"}</kbd>
        </>
      )}
    </button>
  );
}
