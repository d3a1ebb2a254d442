"use client";

import type { ConnectOptions, Scumble } from "@scumble/sdk";
import { type ReactElement, type ReactNode, createContext, useContext, useMemo } from "react";
import { type Connection, createConnection } from "./connection.js";

const ConnectionContext = createContext<Connection | undefined>(undefined);

/** A client, or how to make one. */
export interface ScumbleProviderProps extends ConnectOptions {
  /** A client made elsewhere; the other options are not looked at then. */
  client?: Scumble | Promise<Scumble> | undefined;
  /** What may use the hooks. */
  children?: ReactNode;
}

/**
 * Gives the hooks below it one client. It connects when a hook first needs it, so it renders on a server, too.
 *
 * ```tsx
 * <ScumbleProvider baseUrl="http://127.0.0.1:8600"><App /></ScumbleProvider>
 * ```
 */
export function ScumbleProvider(props: ScumbleProviderProps): ReactElement {
  const { client, apiKey, maxRetries, maxReconnects, timeoutMs, children } = props;
  const baseUrl = props.baseUrl?.toString();
  // Written out in JSX, headers are a new object at every render.
  const headers = JSON.stringify(props.headers ?? {});
  const connection = useMemo(
    () =>
      createConnection(client, {
        baseUrl,
        apiKey,
        maxRetries,
        maxReconnects,
        timeoutMs,
        headers: JSON.parse(headers) as Record<string, string>,
      }),
    [client, baseUrl, apiKey, maxRetries, maxReconnects, timeoutMs, headers],
  );
  return <ConnectionContext.Provider value={connection}>{children}</ConnectionContext.Provider>;
}

/** The nearest provider's connection. */
export function useConnection(): Connection {
  const connection = useContext(ConnectionContext);
  if (!connection) throw new Error("Scumble's hooks need a <ScumbleProvider> above them");
  return connection;
}
