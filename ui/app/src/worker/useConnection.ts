import { useCallback, useEffect, useRef, useState } from "react";

/** `away`: the worker does not answer. `unknown` only until the first answer. */
export type Connection = "unknown" | "there" | "away";

const checkWhileIdleMs = 10_000;
const checkWhileBusyMs = 2_000;
const checkWhileAwayFirstMs = 500;
const checkWhileAwayMaxMs = 4_000;
const answerWithinMs = 4_000;

interface ConnectionOptions {
  /** A job runs: an absence matters more, so it is looked for more often. */
  isBusy: boolean;
  /** The worker answers again after it did not. */
  onReturn: () => void;
}

/**
 * Whether the worker answers: asked now and then while the page is looked at, and at once on `checkNow`. `reportAway`
 * is for a caller that has already found it away: the next answer then counts as its return.
 */
export function useConnection({ isBusy, onReturn }: ConnectionOptions) {
  const [connection, setConnection] = useState<Connection>("unknown");
  const [round, setRound] = useState(0);
  const checkNow = useCallback(() => {
    setRound((current) => current + 1);
  }, []);
  const latest = useRef({ onReturn, isAway: false });
  const reportAway = useCallback(() => {
    latest.current.isAway = true;
    checkNow();
  }, [checkNow]);
  useEffect(() => {
    latest.current.onReturn = onReturn;
  });

  useEffect(() => {
    const stopped = new AbortController();
    let timer: number | undefined;
    let misses = 0;

    async function check(): Promise<void> {
      const isThere = await answers(stopped.signal);
      if (stopped.signal.aborted) return;
      misses = isThere ? 0 : misses + 1;
      const hasReturned = isThere && latest.current.isAway;
      latest.current.isAway = !isThere;
      setConnection(isThere ? "there" : "away");
      if (hasReturned) latest.current.onReturn();
      const waitThere = isBusy ? checkWhileBusyMs : checkWhileIdleMs;
      const waitAway = Math.min(checkWhileAwayFirstMs * 2 ** (misses - 1), checkWhileAwayMaxMs);
      timer = window.setTimeout(() => void check(), isThere ? waitThere : waitAway);
    }

    function checkWhenSeen(): void {
      if (document.visibilityState === "visible") checkNow();
    }

    // A page that nobody looks at asks nothing; becoming visible starts a new round.
    if (document.visibilityState === "visible") void check();
    document.addEventListener("visibilitychange", checkWhenSeen);
    window.addEventListener("online", checkWhenSeen);
    return () => {
      stopped.abort();
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", checkWhenSeen);
      window.removeEventListener("online", checkWhenSeen);
    };
  }, [round, isBusy, checkNow]);

  return { connection, checkNow, reportAway };
}

async function answers(stopped: AbortSignal): Promise<boolean> {
  try {
    const signal = AbortSignal.any([stopped, AbortSignal.timeout(answerWithinMs)]);
    const response = await fetch("/health", { signal, cache: "no-store" });
    return response.ok;
  } catch {
    return false;
  }
}
