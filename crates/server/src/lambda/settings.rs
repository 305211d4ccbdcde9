//! What a caller may set of a function, checked by AWS's rules and in AWS's words.

use std::collections::BTreeMap;

use model::{ByteSize, SettingsPatch, TimeSpan};
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Refusal, runtimes, shown::architecture};

/// The configuration in a request; what is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Asked {
    pub runtime: Option<String>,
    pub role: Option<String>,
    pub handler: Option<String>,
    pub description: Option<String>,
    pub timeout: Option<i64>,
    pub memory_size: Option<i64>,
    pub environment: Option<Environment>,
    pub layers: Option<Vec<String>>,
    pub ephemeral_storage: Option<Storage>,
    pub package_type: Option<String>,
    pub architectures: Option<Vec<String>>,
    pub revision_id: Option<String>,
    pub vpc_config: Option<Value>,
    pub dead_letter_config: Option<Value>,
    pub file_system_configs: Option<Value>,
    pub image_config: Option<Value>,
    #[serde(rename = "KMSKeyArn")]
    pub kms_key_arn: Option<Value>,
    pub code_signing_config_arn: Option<Value>,
    pub capacity_provider_config: Option<Value>,
    pub durable_config: Option<Value>,
    pub tenancy_config: Option<Value>,
    pub accelerator_config: Option<Value>,
    pub tracing_config: Option<Value>,
    pub snap_start: Option<Value>,
    pub logging_config: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Environment {
    pub variables: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Storage {
    pub size: i64,
}

/// All variables of a function, as JSON.
const ENVIRONMENT_MAX: usize = 4096;

/// Names that AWS sets itself.
const RESERVED: [&str; 17] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_TASK_ROOT",
];

/// The last of them, which has no room above.
const RESERVED_TOO: &str = "LAMBDA_RUNTIME_DIR";

impl Asked {
    /// Refuses what breaks AWS's rules, and what is not kept here.
    pub(super) fn check(&self) -> Answer<()> {
        self.check_promises()?;
        between(self.timeout, "timeout", 1, 900)?;
        between(self.memory_size, "memorySize", 128, 10_240)?;
        let storage = self.ephemeral_storage.as_ref().map(|storage| storage.size);
        between(storage, "ephemeralStorage.size", 512, 10_240)?;
        shorter(self.description.as_deref(), "description", 256)?;
        shorter(self.handler.as_deref(), "handler", 128)?;
        if let Some(role) = self.role.as_deref().filter(|role| !is_role(role)) {
            let rule = "Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+";
            return Err(Refusal::constraint(role, "role", rule));
        }
        if let Some(runtime) = &self.runtime {
            runtimes::runtime(runtime)?;
        }
        if let Some(variables) = self.variables() {
            check_variables(variables)?;
        }
        self.check_package()
    }

    fn check_package(&self) -> Answer<()> {
        match self.package_type.as_deref() {
            None | Some("Zip") => {}
            Some("Image") => {
                let message = "PackageType Image is not served here: there is nothing that runs container images; send a Zip";
                return Err(Refusal::parameter(message));
            }
            Some(other) => {
                let rule = "Member must satisfy enum value set: [Zip, Image]";
                return Err(Refusal::constraint(other, "packageType", rule));
            }
        }
        let here = architecture();
        match self.architectures.as_deref() {
            None | Some([]) => Ok(()),
            Some([only]) if only == here => Ok(()),
            Some(others) => Err(Refusal::parameter(format!(
                "Architectures {} cannot run here: this server is {here}",
                others.join(", ")
            ))),
        }
    }

    /// Refuses by name what would only be written down.
    fn check_promises(&self) -> Answer<()> {
        let promises = [
            (
                "VpcConfig",
                &self.vpc_config,
                "the function runs in this machine's network",
            ),
            (
                "DeadLetterConfig",
                &self.dead_letter_config,
                "an event that fails for good is recorded and logged",
            ),
            (
                "FileSystemConfigs",
                &self.file_system_configs,
                "the function sees this machine's own folders",
            ),
            (
                "ImageConfig",
                &self.image_config,
                "there are no container images",
            ),
            ("KMSKeyArn", &self.kms_key_arn, "there is no KMS"),
            (
                "CodeSigningConfigArn",
                &self.code_signing_config_arn,
                "code is not signed",
            ),
            (
                "CapacityProviderConfig",
                &self.capacity_provider_config,
                "there are no capacity providers",
            ),
            (
                "DurableConfig",
                &self.durable_config,
                "there are no durable executions",
            ),
            (
                "TenancyConfig",
                &self.tenancy_config,
                "tenants are not isolated from one another",
            ),
            (
                "AcceleratorConfig",
                &self.accelerator_config,
                "there are no accelerators",
            ),
        ];
        for (name, value, why) in promises {
            if value.as_ref().is_some_and(|value| !is_nothing(value)) {
                return Err(Refusal::parameter(format!(
                    "{name} is not served here: {why}; leave it out"
                )));
            }
        }
        self.check_modes()
    }

    /// The same for what has one value here.
    fn check_modes(&self) -> Answer<()> {
        let modes = [
            (
                "TracingConfig.Mode",
                &self.tracing_config,
                "/Mode",
                "PassThrough",
                "there is no X-Ray",
            ),
            (
                "SnapStart.ApplyOn",
                &self.snap_start,
                "/ApplyOn",
                "None",
                "there are no snapshots",
            ),
            (
                "LoggingConfig.LogFormat",
                &self.logging_config,
                "/LogFormat",
                "Text",
                "lines are kept as they are written",
            ),
        ];
        for (name, value, at, only, why) in modes {
            let found = value.as_ref().and_then(|value| value.pointer(at)?.as_str());
            if found.is_some_and(|found| found != only) {
                return Err(Refusal::parameter(format!(
                    "{name} is {only} here, for {why}; leave it out"
                )));
            }
        }
        Ok(())
    }

    /// The variables that are to take the place of all others.
    fn variables(&self) -> Option<&BTreeMap<String, String>> {
        self.environment.as_ref()?.variables.as_ref()
    }

    /// Puts what is asked into settings.
    pub(super) fn set(&self, patch: &mut SettingsPatch) {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        if let Some(seconds) = self.timeout {
            patch.timeout = Some(TimeSpan::seconds(number(seconds)));
        }
        if let Some(size) = self.memory_size {
            patch.memory = Some(ByteSize::mebibytes(number(size)));
        }
        if let Some(environment) = &self.environment {
            patch.env = environment.variables.clone().filter(|all| !all.is_empty());
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.iter().all(is_nothing),
        Value::Object(all) => all.values().all(is_nothing),
        Value::Bool(is_set) => !is_set,
        Value::Number(_) => false,
    }
}

fn between(value: Option<i64>, at: &str, least: i64, most: i64) -> Answer<()> {
    let Some(value) = value else { return Ok(()) };
    let rule = match value {
        _ if value < least => format!("Member must have value greater than or equal to {least}"),
        _ if value > most => format!("Member must have value less than or equal to {most}"),
        _ => return Ok(()),
    };
    Err(Refusal::constraint(&value.to_string(), at, &rule))
}

/// Refuses a text that is too long.
pub(super) fn shorter(text: Option<&str>, at: &str, most: usize) -> Answer<()> {
    match text {
        Some(text) if text.chars().count() > most => {
            let shown: String = text.chars().take(80).collect();
            let rule = format!("Member must have length less than or equal to {most}");
            Err(Refusal::constraint(&shown, at, &rule))
        }
        Some(_) | None => Ok(()),
    }
}

fn is_role(text: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    let (arn, partition, iam) = (parts.next(), parts.next(), parts.next());
    let is_arn = arn == Some("arn") && iam == Some("iam") && parts.next() == Some("");
    let is_account = parts
        .next()
        .is_some_and(|account| account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()));
    let is_aws = partition.is_some_and(|partition| partition.starts_with("aws"));
    let name = parts.next().and_then(|role| role.strip_prefix("role"));
    is_arn && is_account && is_aws && name.is_some_and(|name| name.len() > 1)
}

fn check_variables(variables: &BTreeMap<String, String>) -> Answer<()> {
    let is_reserved = |name: &&String| {
        let name = name.as_str();
        RESERVED.contains(&name) || name == RESERVED_TOO
    };
    let reserved: Vec<&str> = variables
        .keys()
        .filter(is_reserved)
        .map(|name| &**name)
        .collect();
    if !reserved.is_empty() {
        return Err(Refusal::parameter(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            reserved.join(", ")
        )));
    }
    let measured = serde_json::to_string(variables).unwrap_or_default();
    if measured.len() > ENVIRONMENT_MAX {
        return Err(Refusal::parameter(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {measured}"
        )));
    }
    for name in variables.keys() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !fits || !name.chars().all(is_plain) {
            let shown: String = name.chars().take(80).collect();
            let rule = "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]";
            return Err(Refusal::constraint(&shown, "environment.variables", rule));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: Value) -> String {
        let asked: Asked = serde_json::from_value(body).unwrap();
        let refusal = asked.check().unwrap_err();
        format!("{}: {}", refusal.name(), refusal.message)
    }

    #[test]
    fn what_breaks_a_rule_is_refused_in_awss_words() {
        use serde_json::json;
        for (body, words) in [
            (
                json!({"Timeout": 901}),
                "ValidationException: 1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
            ),
            (json!({"MemorySize": 64}), "greater than or equal to 128"),
            (json!({"Runtime": "java21"}), "Value java21 at 'runtime'"),
            (json!({"Role": "me"}), "'me' at 'role'"),
            (
                json!({"Description": "x".repeat(257)}),
                "length less than or equal to 256",
            ),
            (
                json!({"Environment": {"Variables": {"AWS_REGION": "x", "A_B": "c"}}}),
                "Reserved keys used in this request: AWS_REGION",
            ),
            (
                json!({"Environment": {"Variables": {"A_B": "x".repeat(4096)}}}),
                "exceeded the 4KB limit. String measured: {",
            ),
            (
                json!({"Environment": {"Variables": {"9": "x"}}}),
                "at 'environment.variables'",
            ),
            (json!({"PackageType": "Image"}), "PackageType Image"),
            (
                json!({"Architectures": ["riscv"]}),
                "Architectures riscv cannot run here",
            ),
            (
                json!({"VpcConfig": {"SubnetIds": ["a"]}}),
                "VpcConfig is not served",
            ),
            (
                json!({"TracingConfig": {"Mode": "Active"}}),
                "TracingConfig.Mode is PassThrough here",
            ),
            (
                json!({"KMSKeyArn": "arn:aws:kms:x"}),
                "KMSKeyArn is not served",
            ),
        ] {
            let said = refused(body);
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn what_says_nothing_is_taken() {
        use serde_json::json;
        let asked: Asked = serde_json::from_value(json!({
            "Role": "arn:aws:iam::000000000000:role/path/me",
            "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
            "DeadLetterConfig": {}, "KMSKeyArn": "", "FileSystemConfigs": [],
            "TracingConfig": {"Mode": "PassThrough"}, "SnapStart": {"ApplyOn": "None"},
            "Architectures": [architecture()], "Timeout": 7, "MemorySize": 256,
            "Environment": {"Variables": {"A_B": "1"}}, "Runtime": "bun",
        }))
        .unwrap();
        asked.check().unwrap();
        let mut patch = SettingsPatch::default();
        asked.set(&mut patch);
        assert_eq!(patch.timeout, Some(TimeSpan::seconds(7)));
        assert_eq!(patch.memory, Some(ByteSize::mebibytes(256)));
        assert_eq!(patch.env.unwrap()["A_B"], "1");
    }
}
