"""The client snippets and curl lines of the specification, as they stand there."""

PYTHON = """\
import requests
class RetireClusterAPI:
    def __init__(self, base_url, api_key=None):
        self.base_url = base_url
        self.headers = {'Content-Type': 'application/json'}
        if api_key:
            self.headers['X-API-Key'] = api_key
    def get_cluster_status(self):
        response = requests.get(
            f"{self.base_url}/cluster/status",
            headers=self.headers
        )
        return response.json()
    def submit_task(self, task_type, payload, **kwargs):
        data = {
            'task_type': task_type,
            'payload': payload,
            **kwargs
        }
        response = requests.post(
            f"{self.base_url}/tasks",
            json=data,
            headers=self.headers
        )
        return response.json()
# Usage
api = RetireClusterAPI('http://localhost:8081/api/v1')
status = api.get_cluster_status()
task = api.submit_task('echo', {'message': 'Hello'})
"""

JAVASCRIPT = """\
class RetireClusterAPI {
constructor(baseUrl, apiKey) {
this.baseUrl = baseUrl;
this.headers = {'Content-Type': 'application/json'};
if (apiKey) {
this.headers['X-API-Key'] = apiKey;
}
}
async getClusterStatus() {
const response = await fetch(`${this.baseUrl}/cluster/status`, {
headers: this.headers
});
return response.json();
}
async submitTask(taskType, payload, options = {}) {
const data = {
task_type: taskType,
payload: payload,
...options
};
const response = await fetch(`${this.baseUrl}/tasks`, {
method: 'POST',
headers: this.headers,
body: JSON.stringify(data)
});
return response.json();
}
}
// Usage
const api = new RetireClusterAPI('http://localhost:8081/api/v1');
const status = await api.getClusterStatus();
const task = await api.submitTask('echo', {message: 'Hello'});
"""

CURL_WITH_KEY = """\
curl -H "X-API-Key: your-secret-key" http://localhost:8081/api/v1/cluster/config
curl -H "Authorization: Bearer your-secret-key" http://localhost:8081/api/v1/cluster/config
"""

WEBSOCKET = """\
const ws = new WebSocket('ws://localhost:8081/ws');
ws.onmessage = (event) => {
const update = JSON.parse(event.data);
console.log('Cluster update:', update);
};
"""


def at(port: int, text: str) -> str:
    """The snippet for a server on another port: the only thing that is changed."""
    return text.replace(":8081", f":{port}")
