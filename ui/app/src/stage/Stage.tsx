import type { CSSProperties, Ref } from "react";
import type { Scheduler } from "@scumble/sdk";
import type { Picture } from "../gallery/gallery";
import type { Connection } from "../worker/useConnection";
import type { Drawing } from "../worker/useDrawing";
import { Easel, type Tile } from "./Easel";
import { easelRatio } from "./layout";
import { PictureLabel } from "./PictureLabel";
import { ProgressLine } from "./ProgressLine";
import { Scumbles } from "./Scumbles";

/** What the easel shows: the job (the last one, running or not), or one picture of the gallery. */
export type View = { of: "job"; index: number } | { of: "picture"; id: string };

interface StageProps {
  drawing: Drawing;
  connection: Connection;
  view: View;
  /** The finished picture that the view selects, if there is one. */
  picture: Picture | undefined;
  pictures: readonly Picture[];
  schedulers: readonly Scheduler[];
  example: string | undefined;
  /** Of the next picture: the easel's proportions until a job says its own. */
  width: number;
  height: number;
  onView: (view: View) => void;
  onReuse: (picture: Picture) => void;
  onExample: (prompt: string) => void;
}

export function Stage({ ref, ...props }: StageProps & { ref: Ref<HTMLElement> }) {
  const { drawing, picture, view } = props;
  const isJobShown = view.of === "job";
  const isWaiting = drawing.isActive && isJobShown;
  const isEmpty = isJobShown && picture === undefined && drawing.jobId === null && !drawing.isActive;
  const request = isJobShown ? drawing.job?.request : picture?.request;
  const count = isJobShown && !isEmpty ? (request?.n ?? drawing.progress?.images ?? 1) : 1;
  const width = request?.width ?? props.width;
  const height = request?.height ?? props.height;
  const style = { "--ratio": easelRatio(count, width, height) } as CSSProperties;

  return (
    <section ref={ref} className="stage" aria-label="Picture">
      <div className="frame" style={style}>
        {isEmpty ? (
          <EmptyCanvas example={props.example} onExample={props.onExample} />
        ) : (
          <Easel
            tiles={isJobShown ? jobTiles(props, count) : pictureTiles(picture)}
            width={width}
            height={height}
            prompt={request?.prompt ?? ""}
            isDrawing={isWaiting}
            isStale={isJobShown && isJobStale(props)}
            selected={isJobShown ? view.index : 0}
            onSelect={(index) => {
              props.onView({ of: "job", index });
            }}
          />
        )}
        <div className="frame-foot">
          {isWaiting ? (
            <ProgressLine drawing={drawing} isAway={props.connection === "away"} />
          ) : picture !== undefined ? (
            <PictureLabel
              picture={picture}
              schedulers={props.schedulers}
              onReuse={() => {
                props.onReuse(picture);
              }}
            />
          ) : (
            <p className="frame-note">{endInWords(drawing, props.connection)}</p>
          )}
        </div>
      </div>
      <p className="visually-hidden" role="status">
        {announcement(drawing)}
      </p>
    </section>
  );
}

function jobTiles({ drawing, pictures }: StageProps, count: number): Tile[] {
  const tiles = Array.from({ length: count }, (_, index): Tile => {
    const finished = pictures.find((other) => other.jobId === drawing.jobId && other.index === index);
    const preview = drawing.preview?.image === index ? drawing.preview.src : undefined;
    return { index, src: finished?.src ?? preview, isFinished: finished !== undefined };
  });
  // A single picture keeps its predecessor under it, faded, until there is something to see.
  const [single] = tiles;
  if (count === 1 && single !== undefined && single.src === undefined) {
    single.src = pictures.find((other) => other.jobId !== drawing.jobId)?.src;
  }
  return tiles;
}

function pictureTiles(picture: Picture | undefined): Tile[] {
  return [{ index: 0, src: picture?.src, isFinished: true }];
}

/** What stands on the easel was given up, or is still the picture before. */
function isJobStale({ drawing, picture }: StageProps): boolean {
  if (drawing.status === "cancelled" || drawing.status === "failed") return picture === undefined;
  return drawing.isActive && drawing.preview === null && drawing.images.length === 0;
}

function EmptyCanvas({
  example,
  onExample,
}: {
  example: string | undefined;
  onExample: (prompt: string) => void;
}) {
  return (
    <div className="empty">
      <Scumbles />
      <h2>A primed canvas</h2>
      <p>Say what you would like to see, or begin with an example.</p>
      {example !== undefined && (
        <button
          type="button"
          className="button"
          onClick={() => {
            onExample(example);
          }}
        >
          Draw &ldquo;{example}&rdquo;
        </button>
      )}
    </div>
  );
}

function endInWords({ status, progress }: Drawing, connection: Connection): string {
  if (status === "cancelled") {
    return progress === null
      ? "Cancelled before it began."
      : `Cancelled at step ${progress.step} of ${progress.total}.`;
  }
  if (status !== "failed") return "";
  return connection === "away"
    ? "The worker is away. This goes on when it is back."
    : "This one was not drawn.";
}

/** What a screen reader hears: the turns of a job and its quarters, not every step. */
function announcement({ isActive, status, progress, position, images, job }: Drawing): string {
  if (!isActive && status !== "succeeded" && status !== "cancelled") return "";
  switch (status) {
    case "idle":
    case "failed":
      return "";
    case "submitting":
      return "Sending";
    case "queued":
      return position === null ? "Waiting" : `Waiting, place ${position} in the queue`;
    case "running": {
      const quarters = Math.floor((progress?.fraction ?? 0) * 4);
      return quarters === 0 ? "Drawing" : `${quarters * 25} per cent drawn`;
    }
    case "succeeded":
      return `${images.length === 1 ? "Picture" : `${images.length} pictures`} finished: ${job?.request.prompt ?? ""}`;
    case "cancelled":
      return "Cancelled";
  }
}
