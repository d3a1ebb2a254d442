import type { Model, ScumbleError } from "@scumble/sdk";
import { Mark, MoonIcon, SunIcon } from "./ui/icons";
import { useTheme } from "./ui/theme";
import { sentence } from "./ui/words";
import type { Connection } from "./worker/useConnection";

interface HeaderProps {
  connection: Connection;
  model: Model | undefined;
  modelError: ScumbleError | undefined;
}

export function Header({ connection, model, modelError }: HeaderProps) {
  const { theme, switchTheme } = useTheme();
  const other = theme === "dark" ? "light" : "dark";
  return (
    <header className="header">
      <h1>
        <Mark />
        Scumble
      </h1>
      <p className="connection" data-state={connection} role="status">
        {inWords(connection, model, modelError)}
      </p>
      <button
        type="button"
        className="button-icon"
        aria-label={`Switch to the ${other} theme`}
        title={`Switch to the ${other} theme`}
        onClick={switchTheme}
      >
        {theme === "dark" ? <SunIcon /> : <MoonIcon />}
      </button>
    </header>
  );
}

function inWords(connection: Connection, model: Model | undefined, error: ScumbleError | undefined): string {
  if (connection === "away") return "The worker is away. Trying to reach it…";
  if (model !== undefined) return `${model.id} is ready`;
  if (error !== undefined) return sentence(error.message);
  return "";
}
