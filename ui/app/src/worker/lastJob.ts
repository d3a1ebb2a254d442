const storageKey = "scumble.job";

/**
 * The job to show when the page opens: the one the address names (`#job=…`), else this tab's, else the last one of
 * any tab.
 */
export function lastJob(): string | null {
  const named = new URLSearchParams(location.hash.slice(1)).get("job");
  if (named !== null && named !== "") return named;
  try {
    return sessionStorage.getItem(storageKey) ?? localStorage.getItem(storageKey);
  } catch {
    return null;
  }
}

export function rememberJob(id: string): void {
  try {
    sessionStorage.setItem(storageKey, id);
    localStorage.setItem(storageKey, id);
  } catch {
    // Storage is forbidden: a reload then forgets the job.
  }
}

export function forgetJob(): void {
  if (location.hash !== "") history.replaceState(null, "", location.pathname + location.search);
  try {
    sessionStorage.removeItem(storageKey);
    localStorage.removeItem(storageKey);
  } catch {
    // Nothing was stored.
  }
}
