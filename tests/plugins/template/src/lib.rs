// plugin_template.rs - Template for new plugins
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct PluginRequest {
    pub action: String,
    pub data: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
pub struct PluginResponse {
    pub success: bool,
    pub result: serde_json::Value,
    pub error: Option<String>,
}

// Plugin metadata (embedded in binary)
const PLUGIN_METADATA: &str = r#"
[plugin]
name = "example_plugin"
version = "1.0.0"
description = "Example plugin template"
author = "Plugin Developer"
license = "MIT"

[capabilities]
required = ["compute"]
optional = ["network", "storage"]

[permissions]
read_files = ["data/*.txt"]
write_files = ["output/*.json"]
network_hosts = ["api.example.com"]

[dependencies]
serde = "1.0"
serde_json = "1.0"
"#;

// Plugin entry points
#[no_mangle]
pub extern "C" fn initialize(config_ptr: *const u8, config_len: usize) -> i32 {
    let config_slice = unsafe { std::slice::from_raw_parts(config_ptr, config_len) };
    let config: PluginConfig = match serde_json::from_slice(config_slice) {
        Ok(c) => c,
        Err(_) => return -1,
    };
    
    // Initialize plugin state
    match initialize_plugin(config) {
        Ok(_) => 0,
        Err(_) => -1,
    }
}

#[no_mangle]
pub extern "C" fn handle_request(request_ptr: *const u8, request_len: usize) -> *mut u8 {
    let request_slice = unsafe { std::slice::from_raw_parts(request_ptr, request_len) };
    let request: PluginRequest = match serde_json::from_slice(request_slice) {
        Ok(r) => r,
        Err(_) => return std::ptr::null_mut(),
    };
    
    let response = process_request(request);
    let response_json = serde_json::to_vec(&response).unwrap();
    
    // Allocate memory for response (caller must free)
    let ptr = allocate(response_json.len());
    unsafe {
        std::ptr::copy_nonoverlapping(response_json.as_ptr(), ptr, response_json.len());
    }
    ptr
}

#[no_mangle]
pub extern "C" fn shutdown() -> i32 {
    // Cleanup plugin resources
    cleanup_plugin();
    0
}

#[no_mangle]
pub extern "C" fn health_check() -> i32 {
    if is_plugin_healthy() { 1 } else { 0 }
}

// Plugin implementation
fn initialize_plugin(config: PluginConfig) -> Result<(), PluginError> {
    // Initialize plugin state, load configuration, etc.
    Ok(())
}

fn process_request(request: PluginRequest) -> PluginResponse {
    match request.action.as_str() {
        "process_data" => {
            // Implement data processing logic
            PluginResponse {
                success: true,
                result: serde_json::json!({"processed": request.data}),
                error: None,
            }
        }
        "get_status" => {
            // Return plugin status
            PluginResponse {
                success: true,
                result: serde_json::json!({"status": "running"}),
                error: None,
            }
        }
        _ => {
            PluginResponse {
                success: false,
                result: serde_json::Value::Null,
                error: Some(format!("Unknown action: {}", request.action)),
            }
        }
    }
}

fn cleanup_plugin() {
    // Cleanup resources
}

fn is_plugin_healthy() -> bool {
    // Health check logic
    true
}

// Memory management functions
#[no_mangle]
pub extern "C" fn allocate(len: usize) -> *mut u8 {
    let mut buf = Vec::with_capacity(len);
    let ptr = buf.as_mut_ptr();
    std::mem::forget(buf);
    ptr
}

#[no_mangle]
pub extern "C" fn deallocate(ptr: *mut u8, len: usize) {
    unsafe {
        let _ = Vec::from_raw_parts(ptr, 0, len);
    }
}

// ---- Added: what the template uses and does not define, and nothing else. ----

#[allow(dead_code)]
#[derive(Deserialize)]
pub struct PluginConfig {
    pub settings: serde_json::Value,
    pub resources: serde_json::Value,
    pub capabilities: Vec<String>,
    pub environment: std::collections::HashMap<String, String>,
}

pub struct PluginError;
