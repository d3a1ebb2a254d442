import type { UseGenerateResult } from "@scumble/react";
import { duration, timeLeft } from "../ui/words";

type Drawing = Pick<UseGenerateResult, "status" | "progress" | "position" | "waitMs">;

/** How far a job is, as a stroke that fills and a line of words. */
export function ProgressLine({ drawing, isAway }: { drawing: Drawing; isAway: boolean }) {
  const { progress } = drawing;
  const percent = Math.round((progress?.fraction ?? 0) * 100);
  const [where, left] = isAway ? ["The worker is away", "continues when it is back"] : inWords(drawing);
  return (
    <div className="progress">
      <div
        className="progress-track"
        role="progressbar"
        aria-label="Drawing"
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={percent}
        aria-valuetext={left === "" ? where : `${where}, ${left}`}
        data-step={progress?.step ?? 0}
      >
        <div
          className="progress-stroke"
          style={{ width: `${((progress?.fraction ?? 0) * 100).toFixed(2)}%` }}
        />
      </div>
      <p className="progress-words">
        <span>{where}</span>
        <span>{left}</span>
      </p>
    </div>
  );
}

function inWords({ status, progress, position, waitMs }: Drawing): [where: string, left: string] {
  if (status === "submitting") return ["Sending", ""];
  if (status === "queued") {
    const wait = waitMs === null ? "" : `starts in about ${duration(waitMs)}`;
    return [
      position === null || position <= 1 ? "Next in the queue" : `Place ${position} in the queue`,
      wait,
    ];
  }
  if (progress === null) return ["Getting ready", ""];
  const step = `Step ${progress.step} of ${progress.total}`;
  const where = progress.images > 1 ? `Picture ${progress.image + 1} of ${progress.images} · ${step}` : step;
  return [where, timeLeft(progress.etaMs)];
}
