import { useEffect } from "react";
import type { Model } from "@scumble/sdk";
import { useGenerate, type UseGenerateResult } from "@scumble/react";
import { toRequest, type Settings } from "../composer/settings";
import type { Gallery } from "../gallery/gallery";
import { forgetJob, lastJob, rememberJob } from "./lastJob";

export interface Drawing extends UseGenerateResult {
  /** A job is on its way, from the click (or from being found again after a reload) to its end. */
  isActive: boolean;
  draw: (settings: Settings, model: Model | undefined) => void;
  /** Takes the job up again after the worker was away; forgets the failure if none had been accepted. */
  resume: () => void;
}

/** The studio's one job at a time: started, taken up again after a reload, its pictures put into the gallery. */
export function useDrawing(gallery: Gallery): Drawing {
  const drawing = useGenerate({
    onError(error) {
      // A remembered job that this worker does not have: another data folder, or it was cleared. Nobody asked.
      if (error.code === "not_found") {
        forgetJob();
        drawing.reset();
      }
    },
  });
  const { status, jobId, job, images, timings, warnings, attach, reset } = drawing;

  useEffect(() => {
    const id = lastJob();
    if (id !== null) void attach(id);
  }, [attach]);

  useEffect(() => {
    if (jobId !== null) rememberJob(jobId);
  }, [jobId]);

  useEffect(() => {
    if (jobId === null || job === null) return;
    for (const { blob, index, seed, width, height, mimeType } of images) {
      gallery.put({
        jobId,
        index,
        blob,
        seed,
        width,
        height,
        mimeType,
        request: job.request,
        timings,
        warnings,
      });
    }
  }, [gallery, jobId, job, images, timings, warnings]);

  // A remembered job that had been cancelled is nothing to come back to.
  const isLeftover = job?.status === "cancelled";
  useEffect(() => {
    if (!isLeftover) return;
    forgetJob();
    reset();
  }, [isLeftover, reset]);

  // A job that is being taken up again is not known to run until its own state has been read.
  const isTakenUp = status === "submitting" && jobId !== null;
  const isUnderWay = status === "submitting" || status === "queued" || status === "running";
  const isOver = job !== null && job.status !== "queued" && job.status !== "running";

  return {
    ...drawing,
    isActive: isUnderWay && !isTakenUp && !isOver,
    draw: (settings, model) => void drawing.generate(toRequest(settings, model)),
    resume: () => {
      if (jobId === null) reset();
      else void attach(jobId);
    },
  };
}
