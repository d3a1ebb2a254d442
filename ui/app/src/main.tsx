import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ScumbleProvider } from "@scumble/react";
import { App } from "./App";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/studio.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");

createRoot(root).render(
  <StrictMode>
    <ScumbleProvider baseUrl={location.origin}>
      <App />
    </ScumbleProvider>
  </StrictMode>,
);
