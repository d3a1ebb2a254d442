import { useEffect, useRef, useState } from "react";
import { useModels, useSchedulers } from "@scumble/react";
import { Composer } from "./composer/Composer";
import { fieldId, type FieldErrors } from "./composer/fields";
import {
  emptySettings,
  fromRequest,
  loadSettings,
  settingOfParam,
  shownValue,
  storeSettings,
  type SettingName,
  type Settings,
} from "./composer/settings";
import { Gallery, usePictures, type Picture } from "./gallery/gallery";
import { Strip } from "./gallery/Strip";
import { Header } from "./Header";
import { Stage, type View } from "./stage/Stage";
import { sentence } from "./ui/words";
import { useConnection } from "./worker/useConnection";
import { useDrawing } from "./worker/useDrawing";

const gallery = new Gallery();

/** From this width on the settings stand open: there is room beside the picture. */
const wideScreen = window.matchMedia("(min-width: 60rem)");

const unreachable = "The worker cannot be reached. Your words are kept: draw again when it is back.";

export function App() {
  const [settings, setSettings] = useState(loadSettings);
  const [isSettingsOpen, setSettingsOpen] = useState(wideScreen.matches);
  const [view, setView] = useState<View>({ of: "job", index: 0 });
  const stage = useRef<HTMLElement>(null);
  const models = useModels();
  const schedulers = useSchedulers();
  const pictures = usePictures(gallery);
  const drawing = useDrawing(gallery);
  const { connection, checkNow, reportAway } = useConnection({ isBusy: drawing.isActive, onReturn: resume });
  const { error } = drawing;

  const model = models.data?.find((other) => other.id === settings.model) ?? models.data?.[0];
  // While an accepted job is out of reach the page says so at the picture, and takes it up again by itself.
  const isUnreachable = error?.code === "connection_failed";
  const isJobUnreachable = isUnreachable && drawing.jobId !== null;
  const wrongField = settingOfParam(error?.param);
  const hasProblem = error !== null && !isJobUnreachable && wrongField === undefined;
  const problem = !hasProblem ? undefined : isUnreachable ? unreachable : sentence(error.message);
  const errors: FieldErrors =
    error === null || wrongField === undefined ? {} : { [wrongField]: sentence(error.message) };

  useEffect(() => {
    storeSettings(settings);
  }, [settings]);

  useEffect(() => {
    if (isJobUnreachable) reportAway();
    else if (isUnreachable) checkNow();
  }, [isUnreachable, isJobUnreachable, checkNow, reportAway]);

  const percent =
    drawing.isActive && drawing.progress !== null ? Math.floor(drawing.progress.fraction * 100) : null;
  useEffect(() => {
    document.title = percent === null ? "Scumble" : `${percent} % · Scumble`;
  }, [percent]);

  // The field at fault may be folded away; it is opened first and focused once it can be.
  const [seenError, setSeenError] = useState(error);
  if (error !== seenError) {
    setSeenError(error);
    if (wrongField !== undefined && wrongField !== "prompt") setSettingsOpen(true);
  }
  useEffect(() => {
    if (wrongField !== undefined) document.getElementById(fieldId(wrongField))?.focus();
  }, [wrongField, error]);

  /** The worker is back: take up what its absence broke off. */
  function resume(): void {
    if (models.error !== undefined) models.refetch();
    if (schedulers.error !== undefined) schedulers.refetch();
    if (isUnreachable) drawing.resume();
  }

  function change(name: SettingName, value: string | undefined): void {
    setSettings((current) => ({ ...current, [name]: value }));
  }

  function draw(wanted: Settings): void {
    setView({ of: "job", index: 0 });
    drawing.draw(wanted, model);
    // On a phone the picture is below the words: it is brought up so that one sees it appear.
    stage.current?.scrollIntoView({ block: "nearest" });
  }

  function drawPrompt(prompt: string): void {
    const wanted = { ...settings, prompt };
    setSettings(wanted);
    if (!drawing.isActive) draw(wanted);
  }

  function resetSettings(): void {
    const { prompt, negativePrompt, seed, model: chosen } = settings;
    setSettings({ ...emptySettings, prompt, negativePrompt, seed, model: chosen });
  }

  function reuse(picture: Picture): void {
    setSettings(fromRequest(picture.request, picture.seed));
    document.getElementById(fieldId("prompt"))?.focus();
  }

  // A request that was refused is no job: what was on the easel stays there.
  const [newest] = pictures;
  const hasNoJob = drawing.jobId === null && !drawing.isActive;
  const shownView: View = view.of === "job" && hasNoJob && newest ? { of: "picture", id: newest.id } : view;
  const shown =
    shownView.of === "picture"
      ? pictures.find((picture) => picture.id === shownView.id)
      : pictures.find((picture) => picture.jobId === drawing.jobId && picture.index === shownView.index);
  const isDrawingShown = drawing.isActive && shownView.of === "job";

  return (
    <div className="studio">
      <Header connection={connection} model={model} modelError={models.error} />
      <main>
        <Composer
          settings={settings}
          model={model}
          models={models.data ?? []}
          schedulers={schedulers.data ?? []}
          errors={errors}
          problem={problem}
          isDrawing={drawing.isActive}
          isSettingsOpen={isSettingsOpen}
          shownSeed={shown === undefined ? undefined : String(shown.seed)}
          onChange={change}
          onReset={resetSettings}
          onSettingsToggle={setSettingsOpen}
          onDraw={() => {
            draw(settings);
          }}
          onExample={drawPrompt}
          onCancel={() => void drawing.cancel()}
        />
        <Stage
          ref={stage}
          drawing={drawing}
          connection={connection}
          view={shownView}
          picture={shown}
          pictures={pictures}
          schedulers={schedulers.data ?? []}
          example={model?.examples[0]}
          width={Number(shownValue(settings, "width", model)) || 1}
          height={Number(shownValue(settings, "height", model)) || 1}
          onView={setView}
          onReuse={reuse}
          onExample={drawPrompt}
        />
        <Strip
          pictures={pictures}
          shown={isDrawingShown ? null : (shown?.id ?? null)}
          drawing={
            drawing.isActive
              ? {
                  preview: drawing.preview?.src ?? null,
                  isShown: isDrawingShown,
                  onShow: () => {
                    setView({ of: "job", index: 0 });
                  },
                }
              : undefined
          }
          onShow={(picture) => {
            setView({ of: "picture", id: picture.id });
          }}
        />
      </main>
    </div>
  );
}
