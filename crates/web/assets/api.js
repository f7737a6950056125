// Calls to the orchestrator. Every error is an Error whose message a person can act on.

const PATIENCE_MS = 30000;

/** Calls an endpoint; answers its JSON. */
export async function call(method, path, body, headers = {}) {
  let reply;
  let text;
  try {
    reply = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    text = await reply.text();
  } catch (error) {
    throw new Error(error.name === "TimeoutError" ? `Kamil did not answer within ${PATIENCE_MS / 1000} s. Is the machine overloaded?` : "Kamil cannot be reached. Is it still running?");
  }
  let value;
  try { value = text ? JSON.parse(text) : undefined; } catch { value = undefined; }
  if (reply.ok) return value;
  const detail = value?.detail ?? `Kamil answered ${reply.status}.`;
  throw Object.assign(new Error(value?.next_step ? `${detail} ${value.next_step}` : detail), { status: reply.status });
}

/**
 * Follows a task until it ends. After a broken connection the browser comes back with Last-Event-ID by itself; where it
 * gives up (the server refused), this tries again, ever more slowly, until the server says that there is no such task.
 * Answers a function that stops following.
 */
export function follow(task, { record, delta, end, broken, restored, gone }) {
  let source = null;
  let timer = null;
  let wait = 500;
  let lost = false;
  const retry = async () => {
    try {
      await call("GET", `/v1/tasks/${task}`);
    } catch (error) {
      if (error.status === 404) { gone(error); return; }
    }
    wait = Math.min(wait * 2, 10000);
    if (source) timer = setTimeout(connect, wait);
  };
  const connect = () => {
    const current = new EventSource(`/v1/tasks/${task}/events`);
    source = current;
    current.addEventListener("open", () => { wait = 500; if (lost) { lost = false; restored(); } });
    current.addEventListener("record", (event) => record(JSON.parse(event.data)));
    current.addEventListener("delta", (event) => delta(JSON.parse(event.data)));
    current.addEventListener("end", (event) => { current.close(); end(JSON.parse(event.data)); });
    current.addEventListener("error", () => {
      lost = true;
      broken();
      if (current.readyState === EventSource.CLOSED) retry();
    });
  };
  connect();
  return () => { source.close(); source = null; clearTimeout(timer); };
}
