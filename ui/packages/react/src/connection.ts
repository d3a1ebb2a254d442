import { type ConnectOptions, type Model, type Scheduler, Scumble } from "@scumble/sdk";
import { type QueryStore, createQueryStore } from "./query-store.js";

/** What a provider shares: one client, made at its first use, and what is asked of it once for all components. */
export interface Connection {
  readonly connect: () => Promise<Scumble>;
  readonly models: QueryStore<Model[]>;
  readonly schedulers: QueryStore<Scheduler[]>;
}

/** Makes nothing but the object: it can be created while a page is rendered on a server. */
export function createConnection(
  client: Scumble | Promise<Scumble> | undefined,
  options: ConnectOptions,
): Connection {
  let connecting: Promise<Scumble> | undefined;
  const connect = () => {
    connecting ??= Promise.resolve(client ?? Scumble.connect(options)).catch((error: unknown) => {
      connecting = undefined;
      throw error;
    });
    return connecting;
  };
  return {
    connect,
    models: createQueryStore(async () => (await connect()).models()),
    schedulers: createQueryStore(async () => (await connect()).schedulers()),
  };
}
