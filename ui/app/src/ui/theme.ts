import { useEffect, useState } from "react";

export type Theme = "light" | "dark";

const storageKey = "scumble.theme";
const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");

function chosenTheme(): Theme | undefined {
  const chosen = document.documentElement.dataset.theme;
  return chosen === "light" || chosen === "dark" ? chosen : undefined;
}

/** The theme in force, and a switch to the other one. Until it is used, the system's theme is followed. */
export function useTheme(): { theme: Theme; switchTheme: () => void } {
  const current = (): Theme => chosenTheme() ?? (systemIsDark.matches ? "dark" : "light");
  const [theme, setTheme] = useState(current);

  useEffect(() => {
    const follow = (): void => {
      setTheme(current());
    };
    systemIsDark.addEventListener("change", follow);
    return () => {
      systemIsDark.removeEventListener("change", follow);
    };
  }, []);

  function switchTheme(): void {
    const next = theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    setTheme(next);
    try {
      localStorage.setItem(storageKey, next);
    } catch {
      // Storage is forbidden: the choice lasts until the page is closed.
    }
  }

  return { theme, switchTheme };
}
