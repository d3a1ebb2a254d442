import type { Model, Scheduler } from "@scumble/sdk";
import { Field, errorAttributes } from "../ui/Field";
import { ChevronIcon, DiceIcon, LockIcon, MinusIcon, PlusIcon, SwapIcon, UnlockIcon } from "../ui/icons";
import { fieldId, type Change, type FieldErrors } from "./fields";
import { modelValue, randomSeed, shownValue, type SettingName, type Settings } from "./settings";

interface SettingsPanelProps {
  settings: Settings;
  model: Model | undefined;
  models: readonly Model[];
  schedulers: readonly Scheduler[];
  errors: FieldErrors;
  isSettingsOpen: boolean;
  /** The seed of the picture on the easel: what the lock keeps. */
  shownSeed: string | undefined;
  onChange: Change;
  onReset: () => void;
  onSettingsToggle: (isOpen: boolean) => void;
}

/** The names of the settings that "back to the model's own" empties. */
const ownSettings: readonly SettingName[] = ["width", "height", "steps", "guidanceScale", "scheduler", "n"];

export function SettingsPanel(props: SettingsPanelProps) {
  const { settings, model, models, schedulers, errors, onChange } = props;
  const shown = (name: SettingName): string => shownValue(settings, name, model);
  const field = { settings, model, errors, onChange };
  const isChanged = ownSettings.some(
    (name) => settings[name] !== undefined && settings[name] !== modelValue(name, model),
  );

  return (
    <section className="settings" data-open={props.isSettingsOpen}>
      <h2>
        <button
          type="button"
          className="settings-toggle"
          aria-expanded={props.isSettingsOpen}
          aria-controls="settings-fields"
          onClick={() => {
            props.onSettingsToggle(!props.isSettingsOpen);
          }}
        >
          Settings
          <span className="settings-summary">
            {model !== undefined && `${shown("width")} × ${shown("height")} · ${shown("steps")} steps`}
          </span>
          <ChevronIcon />
        </button>
      </h2>
      <div id="settings-fields" className="settings-fields" hidden={!props.isSettingsOpen}>
        {models.length > 1 && (
          <Field id={fieldId("model")} label="Model" error={errors.model} className="field-row">
            <select
              id={fieldId("model")}
              value={shown("model")}
              onChange={(event) => {
                onChange("model", event.target.value);
              }}
              {...errorAttributes(fieldId("model"), errors.model)}
            >
              {models.map((other) => (
                <option key={other.id}>{other.id}</option>
              ))}
            </select>
          </Field>
        )}
        <Field id={fieldId("negativePrompt")} label="Negative prompt" error={errors.negativePrompt}>
          <textarea
            id={fieldId("negativePrompt")}
            rows={1}
            value={settings.negativePrompt}
            placeholder="What to steer away from"
            autoComplete="off"
            onChange={(event) => {
              onChange("negativePrompt", event.target.value);
            }}
            {...errorAttributes(fieldId("negativePrompt"), errors.negativePrompt)}
          />
        </Field>
        <SizeField {...field} />
        <NumberField {...field} name="steps" label="Steps" minimum={1} maximum={150} step={1} />
        <NumberField {...field} name="guidanceScale" label="Guidance" minimum={0} maximum={30} step={0.5} />
        <Field id={fieldId("scheduler")} label="Scheduler" error={errors.scheduler} className="field-row">
          <select
            id={fieldId("scheduler")}
            value={shown("scheduler")}
            onChange={(event) => {
              onChange("scheduler", event.target.value);
            }}
            {...errorAttributes(fieldId("scheduler"), errors.scheduler)}
          >
            {schedulers.map((scheduler) => (
              <option key={scheduler.name} value={scheduler.name}>
                {scheduler.label}
              </option>
            ))}
          </select>
        </Field>
        <SeedField {...field} shownSeed={props.shownSeed} />
        <BatchField {...field} />
        {isChanged && (
          <button type="button" className="button-quiet settings-reset" onClick={props.onReset}>
            Back to the model&rsquo;s own settings
          </button>
        )}
      </div>
    </section>
  );
}

interface SettingFieldProps {
  settings: Settings;
  model: Model | undefined;
  errors: FieldErrors;
  onChange: Change;
}

interface NumberFieldProps extends SettingFieldProps {
  name: SettingName;
  label: string;
  minimum: number;
  maximum: number;
  step: number;
}

/** A number with a slider beside it. The slider is for pointers; the number has the name, the keys and the error. */
function NumberField({
  settings,
  model,
  errors,
  onChange,
  name,
  label,
  minimum,
  maximum,
  step,
}: NumberFieldProps) {
  const id = fieldId(name);
  const value = shownValue(settings, name, model);
  return (
    <Field id={id} label={label} error={errors[name]} className="field-row">
      <div className="slider-and-number">
        <input
          type="range"
          aria-hidden="true"
          tabIndex={-1}
          min={minimum}
          max={maximum}
          step={step}
          value={value === "" ? modelValue(name, model) : value}
          onChange={(event) => {
            onChange(name, event.target.value);
          }}
        />
        <input
          id={id}
          type="number"
          inputMode="decimal"
          min={minimum}
          max={maximum}
          step={step}
          value={value}
          placeholder={modelValue(name, model)}
          onChange={(event) => {
            onChange(name, event.target.value);
          }}
          onBlur={() => {
            if (value === "") onChange(name, undefined);
          }}
          {...errorAttributes(id, errors[name])}
        />
      </div>
    </Field>
  );
}

/** Width and height, or one sentence where the model has but one size. */
function SizeField({ settings, model, errors, onChange }: SettingFieldProps) {
  const limits = model?.limits;
  if (
    limits !== undefined &&
    limits.width.minimum === limits.width.maximum &&
    limits.height.minimum === limits.height.maximum
  ) {
    return (
      <p className="fixed-size">
        <span>Size</span>
        <span>{`${limits.width.minimum} × ${limits.height.minimum}, the only one of this model`}</span>
      </p>
    );
  }

  function swap(): void {
    const [width, height] = [shownValue(settings, "width", model), shownValue(settings, "height", model)];
    onChange("width", height);
    onChange("height", width);
  }

  return (
    <div className="size" role="group" aria-label="Size in pixels">
      {(["width", "height"] as const).map((name) => (
        <Field
          key={name}
          id={fieldId(name)}
          label={name === "width" ? "Width" : "Height"}
          error={errors[name]}
          className="field-row"
        >
          <input
            id={fieldId(name)}
            type="number"
            inputMode="numeric"
            min={limits?.[name].minimum}
            max={limits?.[name].maximum}
            step={limits?.[name].multiple}
            value={shownValue(settings, name, model)}
            placeholder={modelValue(name, model)}
            onChange={(event) => {
              onChange(name, event.target.value);
            }}
            onBlur={(event) => {
              if (event.target.value === "") onChange(name, undefined);
            }}
            {...errorAttributes(fieldId(name), errors[name])}
          />
        </Field>
      ))}
      <button
        type="button"
        className="button-icon"
        aria-label="Swap width and height"
        title="Swap"
        onClick={swap}
      >
        <SwapIcon />
      </button>
    </div>
  );
}

/** Empty: a new seed for every picture. With a number in it, the same start every time. */
function SeedField({
  settings,
  errors,
  onChange,
  shownSeed,
}: SettingFieldProps & { shownSeed: string | undefined }) {
  const id = fieldId("seed");
  const isLocked = settings.seed !== "";
  return (
    <Field id={id} label="Seed" error={errors.seed} className="field-row">
      <div className="seed">
        <input
          id={id}
          type="text"
          inputMode="numeric"
          autoComplete="off"
          value={settings.seed}
          placeholder="Random"
          onChange={(event) => {
            onChange("seed", event.target.value.trim());
          }}
          {...errorAttributes(id, errors.seed)}
        />
        <button
          type="button"
          className="button-icon"
          aria-pressed={isLocked}
          aria-label="Keep the seed"
          title={isLocked ? "Let the seed change again" : "Keep the seed"}
          onClick={() => {
            onChange("seed", isLocked ? "" : (shownSeed ?? randomSeed()));
          }}
        >
          {isLocked ? <LockIcon /> : <UnlockIcon />}
        </button>
        <button
          type="button"
          className="button-icon"
          aria-label="Throw a new seed"
          title="Throw a new seed"
          onClick={() => {
            onChange("seed", randomSeed());
          }}
        >
          <DiceIcon />
        </button>
      </div>
    </Field>
  );
}

const batchMinimum = 1;
const batchMaximum = 8;

function BatchField({ settings, model, errors, onChange }: SettingFieldProps) {
  const id = fieldId("n");
  const value = shownValue(settings, "n", model);
  const count = Number(value);
  const stepTo = (next: number): void => {
    onChange("n", String(Math.min(Math.max(next, batchMinimum), batchMaximum)));
  };
  return (
    <Field id={id} label="Pictures" error={errors.n} className="field-row">
      <div className="stepper">
        <button
          type="button"
          className="button-icon"
          aria-label="One picture fewer"
          disabled={count <= batchMinimum}
          onClick={() => {
            stepTo(count - 1);
          }}
        >
          <MinusIcon />
        </button>
        <input
          id={id}
          type="number"
          inputMode="numeric"
          min={batchMinimum}
          max={batchMaximum}
          value={value}
          placeholder={modelValue("n", model)}
          onChange={(event) => {
            onChange("n", event.target.value);
          }}
          onBlur={() => {
            if (value === "") onChange("n", undefined);
          }}
          {...errorAttributes(id, errors.n)}
        />
        <button
          type="button"
          className="button-icon"
          aria-label="One picture more"
          disabled={count >= batchMaximum}
          onClick={() => {
            stepTo(count + 1);
          }}
        >
          <PlusIcon />
        </button>
      </div>
    </Field>
  );
}
