import type { APIRequestContext } from "@playwright/test";

/** What the tests read of a job; the whole of it is the worker's contract. */
export interface Job {
  status: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  attempt: number;
  request: { prompt: string; seed: number | string; steps: number; n: number };
}

export interface JobEvent {
  event: string;
  seq: number;
  step?: number;
}

export interface Model {
  id: string;
  defaults: { width: number; height: number; steps: number };
}

/** The model that draws when a job names none. */
export async function defaultModel(request: APIRequestContext, url: string): Promise<Model> {
  const response = await request.get(`${url}/v1/models`);
  const { data } = (await response.json()) as { data: [Model, ...Model[]] };
  return data[0];
}

export async function job(request: APIRequestContext, url: string, id: string): Promise<Job> {
  const response = await request.get(`${url}/v1/jobs/${id}`);
  return (await response.json()) as Job;
}

/** All events of a job that has ended. */
export async function events(request: APIRequestContext, url: string, id: string): Promise<JobEvent[]> {
  const response = await request.get(`${url}/v1/jobs/${id}/stream`);
  const lines = (await response.text()).split(/\r?\n/).filter((line) => line.startsWith("data:"));
  return lines
    .map((line) => line.slice("data:".length).trim())
    .filter((data) => data !== "[DONE]")
    .map((data) => JSON.parse(data) as JobEvent);
}
