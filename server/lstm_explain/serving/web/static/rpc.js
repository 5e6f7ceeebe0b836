// Calls the services by the Connect protocol: JSON over HTTP.

const SERVICES = { models: "lstm_explain.v1.ModelService", explanations: "lstm_explain.v1.ExplanationService" };

/** The error of a failed call. code: the gRPC code in lower case. field: the invalid field of the request, if any. */
export class CallError extends Error {
  constructor(code, message, field = "", requestId = "") {
    super(message);
    this.code = code;
    this.field = field;
    this.requestId = requestId;
  }
}

export class Server {
  token = "";

  async models(signal) {
    return (await this.#call(SERVICES.models, "ListModels", {}, signal)).models ?? [];
  }

  async model(name, version, signal) {
    return (await this.#call(SERVICES.models, "GetModel", { name, version }, signal)).model;
  }

  async explain(request, signal) {
    return this.#call(SERVICES.explanations, "Explain", request, signal);
  }

  async #call(service, method, message, signal) {
    const headers = { "content-type": "application/json", "connect-protocol-version": "1" };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    let answer;
    try {
      const body = JSON.stringify(message);
      answer = await fetch(`/${service}/${method}`, { method: "POST", headers, body, signal, credentials: "omit" });
      if (answer.ok) return await answer.json();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new CallError("unavailable", "The server cannot be reached.");
    }
    throw await problem(answer);
  }
}

async function problem(answer) {
  const requestId = answer.headers.get("x-request-id") ?? "";
  try {
    const told = await answer.json();
    const bad = (told.details ?? []).find((detail) => detail.type === "google.rpc.BadRequest");
    return new CallError(told.code, told.message, bad?.debug?.fieldViolations?.[0]?.field ?? "", requestId);
  } catch {
    return new CallError("unknown", `The server answered ${answer.status}.`, "", requestId);
  }
}
