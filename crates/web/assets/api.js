// Calls to the orchestrator. Every error is an Error whose message a person can act on.

/** Calls an endpoint; answers its JSON. */
export async function call(method, path, body, headers = {}) {
  let reply;
  try {
    reply = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("Kamil cannot be reached. Is it still running?");
  }
  const text = await reply.text();
  let value;
  try { value = text ? JSON.parse(text) : undefined; } catch { value = undefined; }
  if (reply.ok) return value;
  const detail = value?.detail ?? `Kamil answered ${reply.status}.`;
  throw new Error(value?.next_step ? `${detail} ${value.next_step}` : detail);
}

/**
 * Follows a task until it ends. The browser reconnects with Last-Event-ID by itself.
 * Answers a function that stops following.
 */
export function follow(task, { record, delta, end, broken, restored }) {
  const source = new EventSource(`/v1/tasks/${task}/events`);
  let lost = false;
  source.addEventListener("open", () => { if (lost) { lost = false; restored(); } });
  source.addEventListener("record", (event) => record(JSON.parse(event.data)));
  source.addEventListener("delta", (event) => delta(JSON.parse(event.data)));
  source.addEventListener("end", (event) => { source.close(); end(JSON.parse(event.data)); });
  source.addEventListener("error", () => { lost = true; broken(); });
  return () => source.close();
}
